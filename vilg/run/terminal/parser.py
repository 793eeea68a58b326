"""The parser of every verb's options: argparse, but a mistake is one sentence."""

import argparse
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """argparse, but a mistake is one sentence."""

    def error(self, message: str) -> NoReturn:
        """The sentence, with the nearest option for one that is unknown; exits with 2."""
        from vilg.config import suggestion

        unknown = (
            message.removeprefix("unrecognized arguments: ").split()[0].partition("=")[0]
            if "unrecognized" in message
            else ""
        )
        near = suggestion(unknown, self._option_string_actions) if unknown.startswith("-") else ""
        self.exit(2, f"{self.prog}: {message}; {near}`{self.prog} --help` lists the options\n")
