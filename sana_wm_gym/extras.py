"""Optional packages: which extra brings which, and one line for what is missing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, requires
from importlib.util import find_spec

_REQUIREMENT = re.compile(r"([\w.-]+).*;\s*extra\s*==\s*['\"](\w+)['\"]")
# Distributions whose import name is not their own name with underscores.
_IMPORTED = {"hydra-core": "hydra", "flash-linear-attention": "fla", "pyyaml": "yaml"}
_IMPORTED |= {"scikit-image": "skimage", "scikit-learn": "sklearn", "pytest-xdist": "xdist"}
_IMPORTED |= {"pygame-ce": "pygame"}


def extras() -> dict[str, list[str]]:
    """Extra -> import names of its packages; empty where the package is not installed."""
    try:
        lines = requires("sana_wm_gym") or []
    except PackageNotFoundError:  # a checkout on the path
        return {}
    found: dict[str, list[str]] = {}
    for line in lines:
        if match := _REQUIREMENT.fullmatch(line):
            name = match[1].lower()
            found.setdefault(match[2], []).append(_IMPORTED.get(name, name.replace("-", "_")))
    return found


def missing(names: Iterable[str]) -> list[str]:
    """The modules among `names` that are not installed."""
    return [name for name in names if find_spec(name) is None]


def install_line(extra: str) -> str:
    """The command that installs an extra."""
    return f"pip install 'sana_wm_gym[{extra}]'"


def message_of(error: Exception, extra: str | None = None) -> str:
    """One line for an error; for a missing package, with the command that installs it.

    Args:
        error: What was raised.
        extra: The extra to name, if it brings the package.
    """
    cause: BaseException | None = error
    while isinstance(cause, ImportError) and not isinstance(cause, ModuleNotFoundError):
        cause = cause.__cause__  # hydra's, when it looks up a class
    name = cause.name if isinstance(cause, ModuleNotFoundError) else None
    module = (name or "").partition(".")[0]
    if module in ("", "sana_wm_gym"):
        return " ".join(str(error).split())
    known = extras()
    bringing = [name for name, modules in known.items() if module in modules]
    if extra and (extra in bringing or not known):
        bringing = [extra]
    command = install_line(bringing[0]) if bringing else f"pip install {module}"
    return f"{module} is not installed: {command}"


def nearest(given: str, choices: Iterable[str]) -> str:
    """ ", did you mean NAME?" where a name is close to what was given, else ""."""
    close = get_close_matches(given, list(choices), 1)
    return f", did you mean {close[0]}?" if close else ""
