"""Command lines of hydra settings, with errors of one line and exit status 2."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from rich.console import Console

from sana_wm_gym.extras import message_of, nearest

CONF = "sana_wm_gym.conf"
"""Package of the settings' YAML files."""

Work = Callable[[Any, Console, Any], object]
"""(instantiated config, console, hydra's settings) -> anything; what a command does. An int is the
exit status."""

# Flags of hydra itself, as it documents them.
_FLAGS: tuple[str, ...] = ("--help", "--hydra-help", "--version", "--cfg", "--resolve", "--package")
_FLAGS += ("--run", "--multirun", "--shell-completion", "--config-path", "--config-name")
_FLAGS += ("--config-dir", "--experimental-rerun", "--info")
_FLAGS += ("-h", "-c", "-p", "-r", "-m", "-sc", "-cp", "-cn", "-cd", "-i")


def run_command(
    config_name: str, work: Work, arguments: Sequence[str] | None = None, conf: str = CONF
) -> int:
    """Compose settings from the command line and do the work.

    Args:
        config_name: Primary config in `conf`.
        work: Takes the instantiated config, a console and hydra's settings.
        arguments: Settings as name=value, and hydra's flags; None takes those of the process.
        conf: Package of the YAML files.

    Returns:
        The exit status.

    Raises:
        ValueError: A setting is unknown or invalid.
        ImportError: A package is missing, such as hydra.
        OSError: Raised by the work.
    """
    import hydra

    given = list(sys.argv)
    overrides = _completed(given[1:] if arguments is None else arguments, conf)
    _check(config_name, overrides, conf)
    sweep = any(argument in ("-m", "--multirun") for argument in overrides)
    status, failed = 0, None

    @hydra.main(config_path=f"pkg://{conf}", config_name=config_name, version_base="1.3")
    def command(settings: Any) -> None:
        nonlocal status, failed
        sys.argv = given  # for provenance
        try:
            result = work(instantiated(settings), Console(), settings)
        except (ImportError, OSError, ValueError) as error:
            # hydra would print a traceback. Runs of a sweep may be in processes of their own.
            if sweep:
                print(f"error: {message_of(error)}", file=sys.stderr)
                sys.exit(2)
            failed = error
            return
        if isinstance(result, int):
            status = max(status, result)

    sys.argv = [given[0], *overrides]
    try:
        command()
    finally:
        sys.argv = given
    if failed is not None:
        raise failed
    return status


def conf_folder(conf: str = CONF) -> Path:
    """The folder of the YAML files."""
    return Path(str(files(conf)))


def instantiated(settings: Any) -> Any:
    """Settings as the objects they name.

    Raises:
        ValueError: A setting is invalid.
        ImportError: A package is missing.
        FileNotFoundError: A file is missing.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate
    from omegaconf.errors import OmegaConfBaseException

    try:
        return instantiate(settings, _convert_="object")
    except OmegaConfBaseException as error:
        raise ValueError(_one_line(error)) from error
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, ImportError | OSError):
            raise cause  # noqa: B904, its own cause names the package
        raise ValueError(_one_line(cause or error)) from error


def _completed(arguments: Sequence[str], conf: str) -> list[str]:
    """Short forms as hydra takes them: `world=NAME` of a world without a config of its own, and
    `agent.NAME=VALUE` of an argument that no config lists."""
    worlds = {path.stem for path in (conf_folder(conf) / "world").glob("*.yaml")}
    result = []
    for argument in arguments:
        key, sign, value = argument.partition("=")
        if sign and key == "world" and worlds and value not in worlds and "," not in value:
            result += ["world=named", f"world.name={value}"]
        elif sign and key.startswith("agent."):
            result.append(f"++{argument}")
        else:
            result.append(argument)
    return result


def _check(config_name: str, arguments: Sequence[str], conf: str) -> None:
    """Find what is wrong with overrides before hydra prints it over several lines.

    Raises:
        ValueError: A flag, key or choice is unknown.
    """
    from hydra import compose, initialize_config_module
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    for flag in arguments:
        name = flag.partition("=")[0]
        if name.startswith("-") and name not in _FLAGS:
            raise ValueError(f"unknown flag {name}{nearest(name, _FLAGS)}")
    for argument in arguments:
        key, _, name = argument.partition("=")
        listed = (conf_folder(conf) / f"launcher/{name}.yaml").is_file()
        if key == "launcher" and name != "local" and listed and not _has_plugin(name):
            raise ValueError(f"{argument} needs its plugin: pip install hydra-{name}-launcher")
    # A sweep's overrides are no single run's.
    if any(argument.startswith("-") for argument in arguments):
        return
    with initialize_config_module(conf, version_base="1.3"):
        try:
            compose(config_name, overrides=list(arguments))
        except (HydraException, OmegaConfBaseException) as error:
            defaults = OmegaConf.to_container(compose(config_name), resolve=False)
            known = [*_keys(defaults), *(p.name for p in conf_folder(conf).iterdir() if p.is_dir())]
            keys = [argument.lstrip("+~").partition("=")[0] for argument in arguments]
            strange = [key for key in keys if key not in known and not key.startswith("hydra.")]
            message = _one_line(error)
            if strange and message.startswith("Could not override"):
                message = f"unknown setting {strange[0]}{nearest(strange[0], known)}"
            raise ValueError(message) from error


def _has_plugin(launcher: str) -> bool:
    found = importlib.util.find_spec
    return bool(found("hydra_plugins") and found(f"hydra_plugins.hydra_{launcher}_launcher"))


def _keys(settings: Any, within: str = "") -> Iterator[str]:
    """Dotted names of all settings."""
    if isinstance(settings, dict):
        for key, value in settings.items():
            yield f"{within}{key}"
            yield from _keys(value, f"{within}{key}.")


def _one_line(error: BaseException) -> str:
    """A message without the lines that hydra and OmegaConf add for their own debugging."""
    added = ("full_key:", "object_type", "Config search path", "Set the environment", "To append")
    lines: list[str] = []
    for line in str(error).splitlines():
        if line.strip().startswith(added):
            break
        lines += line.split()
    return " ".join(lines)
