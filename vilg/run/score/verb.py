"""The options of `vilg score`, whose actions are modules of their own."""

import argparse
import importlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from vilg.run.terminal.parser import Parser


class Action(NamedTuple):
    """An action: the module with its options and its `main`, and a line for the help."""

    module: str
    summary: str


ACTIONS: dict[str, Action] = {
    "captions": Action("vilg.run.score.captions", "captions against references"),
    "images": Action("vilg.run.score.images", "pictures against reference pictures or prompts"),
}


class ActionParser(Parser):
    """The parser of one action. It imports the action's module when the action is chosen, because
    each module takes seconds to load.
    """

    action = ""

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: object = None) -> Any:
        """As argparse's, with the options of the action."""
        if self.description is None:
            module = importlib.import_module(ACTIONS[self.action].module)
            self.description = module.__doc__
            self.formatter_class = argparse.RawDescriptionHelpFormatter
            module.add_arguments(self)
        return super().parse_known_args(args, namespace)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the actions."""
    actions = parser.add_subparsers(
        dest="action", required=True, metavar="ACTION", parser_class=ActionParser
    )
    for name, action in ACTIONS.items():
        actions.add_parser(name, help=action.summary, allow_abbrev=False).action = name


def main(args: argparse.Namespace, config: ConfigDict | None) -> int:
    """Runs an action; the exit code."""
    return importlib.import_module(ACTIONS[args.action].module).main(args, config)
