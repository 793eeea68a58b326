"""The options of `vilg score`, which hands on to what is scored."""

import argparse
import importlib
from collections.abc import Sequence
from typing import Any

from vilg.run.terminal.parser import Parser

ACTIONS = {
    "captions": ("vilg.run.score.captions", "captions against references"),
    "images": ("vilg.run.score.images", "pictures against reference pictures or prompts"),
}


class ActionParser(Parser):
    """The parser of an action, which asks the action's module for its options only when it is
    chosen: each imports much.
    """

    action = ""

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        """As argparse's."""
        if self.description is None:
            module = importlib.import_module(ACTIONS[self.action][0])
            self.description, self.formatter_class = (
                module.__doc__,
                argparse.RawDescriptionHelpFormatter,
            )
            module.add_arguments(self)
        return super().parse_known_args(args, namespace)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions."""
    actions = parser.add_subparsers(
        dest="action", required=True, metavar="ACTION", parser_class=ActionParser
    )
    for name, (_, what) in ACTIONS.items():
        actions.add_parser(name, help=what, allow_abbrev=False).action = name


def main(args: argparse.Namespace, config: Any) -> int:
    """Runs an action."""
    return importlib.import_module(ACTIONS[args.action][0]).main(args, config)
