"""A command line that says in one line what is wrong with a call."""

from __future__ import annotations

import argparse
import re
from typing import Any, NoReturn

# Exit status of a command that could not do its work because of how it was called or set up.
MISUSED = 2
_QUOTED_CHOICE = re.compile(r"invalid choice: .* \((?=choose from )", re.DOTALL)


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong with a call in one line, and of which command."""

    def error(self, message: str) -> NoReturn:
        """End with status 2 and one line."""
        # What was given is not quoted: it may be an address with its password.
        message = _QUOTED_CHOICE.sub("there is no such choice (", message)
        self.exit(MISUSED, f"{self.prog}: {message} (see {self.prog} --help)\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does, but for what is not known: that is an error of the command that was named."""
        # argparse would leave what a command does not know to the parser above it, which does not say of which it is.
        found, unknown = super().parse_known_args(args, namespace)
        if unknown and unknown[0].startswith("-"):
            self.error(f"unknown option {unknown[0].partition('=')[0]}")
        if unknown:
            self.error("there is a word too many")
        return found, unknown
