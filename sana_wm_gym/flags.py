"""Command lines of flags, with errors of one line and exit status 2."""

from __future__ import annotations

import argparse
import re
import sys
from typing import Any, NoReturn

from sana_wm_gym.extras import nearest


class FlagParser(argparse.ArgumentParser):
    """A parser that suggests the nearest flag for an unknown one.

    Args:
        prog: The command, such as "sana-wm demo".
        description: Text of `--help`, printed without wrapping.
        kwargs: As for `argparse.ArgumentParser`.
    """

    def __init__(self, prog: str, description: str | None = None, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        # Abbreviations would hide typing errors.
        super().__init__(prog=prog, description=description, allow_abbrev=False, **kwargs)
        self.has_commands = False

    def add_subparsers(self, **kwargs: Any) -> Any:
        """As in argparse."""
        self.has_commands = True
        return super().add_subparsers(**kwargs)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """As in argparse, but an unknown argument is an error, and the first that is reported."""
        given = sys.argv[1:] if args is None else args
        known = re.findall(r"(?<![\w-])--[\w-]+", self.format_help())
        flags = [text.partition("=")[0] for text in given if text[:2] == "--" != text]
        strange = [] if self.has_commands else [flag for flag in flags if flag not in known]
        if not strange:
            found, strange = super().parse_known_args(given, namespace)
        if strange:
            self.error(f"unknown argument {strange[0]}{nearest(strange[0], known)}")
        return found, []

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with status 2."""
        if match := re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message):
            message += nearest(match[1], re.findall(r"[\w-]+", match[2]))
        print(f"error: {message} (see {self.prog} --help)", file=sys.stderr)
        sys.exit(2)
