"""The parser of every verb's options, for which a mistake is one sentence."""

import argparse
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """argparse's parser, but a mistake is one sentence without the usage."""

    def error(self, message: str) -> NoReturn:
        """Prints the sentence, with the nearest option to an unknown one, and exits with 2."""
        from vilg.config import suggestion

        unknown = ""
        if "unrecognized" in message:
            first = message.removeprefix("unrecognized arguments: ").split()[0]
            unknown = first.partition("=")[0]
        near = suggestion(unknown, self._option_string_actions) if unknown.startswith("-") else ""
        self.exit(2, f"{self.prog}: {message}; {near}`{self.prog} --help` lists the options\n")
