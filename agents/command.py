"""Command lines of hydra settings, with errors of one line and exit status 2."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

CONF = Path(__file__).parents[1] / "conf"


Work = Callable[[Any, Console, Any], object]
"""(instantiated config, console, hydra's settings) -> anything; what a command does."""


def run_command(config_name: str, work: Work) -> None:
    """Compose settings from the command line, do the work and end the process.

    Exit status 2 and one line mean that a setting is wrong or something is missing.

    Args:
        config_name: Primary config in conf/.
        work: Takes the instantiated config, a console and hydra's settings.
    """
    try:
        import hydra
    except ModuleNotFoundError:
        sys.exit("error: settings need hydra: pip install sana_wm_gym[agents]")
    given = list(sys.argv)
    sys.argv = [given[0], *_completed(given[1:])]
    problem = _problem(config_name, sys.argv[1:])
    if problem is not None:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)

    @hydra.main(config_path=str(CONF), config_name=config_name, version_base="1.3")
    def command(settings: Any) -> None:
        sys.argv = given  # for provenance
        try:
            work(instantiated(settings), Console(), settings)
        except (ImportError, OSError, ValueError) as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)

    command()


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
            raise cause from error
        raise ValueError(_one_line(cause or error)) from error


def _completed(arguments: list[str]) -> list[str]:
    """Short forms as hydra takes them: `world=NAME` of a world without a config of its own, and
    `agent.NAME=VALUE` of an argument that no config lists."""
    known = {path.stem for path in (CONF / "world").glob("*.yaml")}
    result = []
    for argument in arguments:
        key, sign, value = argument.partition("=")
        if sign and key == "world" and value not in known and "," not in value:
            result += ["world=named", f"world.name={value}"]
        elif sign and key.startswith("agent."):
            result.append(f"++{argument}")
        else:
            result.append(argument)
    return result


def _problem(config_name: str, arguments: list[str]) -> str | None:
    """What is wrong with overrides, before hydra prints it over several lines."""
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    launcher = [a.partition("=")[2] for a in arguments if a.startswith("launcher=")]
    for name in launcher:
        if name == "local" or not (CONF / "launcher" / f"{name}.yaml").is_file():
            continue
        if importlib.util.find_spec("hydra_plugins") is None or not importlib.util.find_spec(
            f"hydra_plugins.hydra_{name}_launcher"
        ):
            return f"launcher={name} needs its plugin: pip install hydra-{name}-launcher"
    # Flags are hydra's own, and a sweep's overrides are no single run's.
    if any(argument.startswith("-") for argument in arguments):
        return None
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            compose(config_name, overrides=arguments)
    except (HydraException, OmegaConfBaseException) as error:
        return _one_line(error)
    return None


def _one_line(error: BaseException) -> str:
    """A message without the lines that hydra and OmegaConf add for their own debugging."""
    added = ("full_key:", "object_type", "Config search path", "Set the environment", "To append")
    lines: list[str] = []
    for line in str(error).splitlines():
        if line.strip().startswith(added):
            break
        lines += line.split()
    return " ".join(lines)
