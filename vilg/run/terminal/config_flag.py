"""The option --config of the verbs that read an experiment, with its overrides.

Separate from the command line because reading an experiment imports ml_collections and JAX, which
`vilg --help` does without."""

import re
import traceback
from collections.abc import Sequence
from typing import Any


def config_arguments(argv: Sequence[str], default: str = "") -> list[str]:
    """The arguments that concern the experiment, "--config FILE" joined to "--config=FILE", and
    the verb's default experiment where there is one and none is named.

    Errors: UserError for an override without a value."""
    from vilg.types import UserError

    found = []
    for i, argument in enumerate(argv):
        if argument == "--config" and i + 1 < len(argv):
            found.append(f"--config={argv[i + 1]}")
        elif argument.startswith("--config") and argument != "--config":
            found.append(argument)
    for argument in found:
        if argument.startswith("--config.") and "=" not in argument:
            raise UserError(
                f"{argument}: has no value; write it with =, such as --config.training.steps=40"
            )
    named = any(argument.startswith("--config=") for argument in found)
    return found if named or not default else [f"--config={default}", *found]


def read_config(arguments: Sequence[str]) -> Any:
    """The ConfigDict of --config=FILE.py[:size] with its overrides. Errors: UserError, one
    sentence.
    """
    from absl import flags
    from ml_collections import config_flags

    from vilg.experiment_file import load_config
    from vilg.overrides import admit
    from vilg.types import UserError

    files = [a.split("=", 1)[1] for a in arguments if a.startswith("--config=")]
    if not files:
        raise UserError("--config is missing: give --config=FILE.py[:size] before its overrides")
    overrides = [a for a in arguments if a.startswith("--config.")]
    try:
        config = load_config(files[-1])
    except UserError:
        raise
    except Exception as error:  # whatever the file does
        where = traceback.extract_tb(error.__traceback__)[-1]
        line = error.lineno if isinstance(error, SyntaxError) else where.lineno
        said = error.msg if isinstance(error, SyntaxError) else f"{type(error).__name__}: {error}"
        file = error.filename if isinstance(error, SyntaxError) else where.filename
        raise UserError(
            f"config={files[-1]!r}: {said} ({file}, line {line}); correct the file"
        ) from None
    values = flags.FlagValues()
    argv = ["vilg", *overrides]
    try:
        for override in overrides:
            admit(config, override.removeprefix("--config.").partition("=")[0].split("."))
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
        values(argv)
        return values.config
    except UserError:
        raise
    except (flags.Error, KeyError, AttributeError, TypeError, ValueError) as error:
        said = " ".join(str(error).split())
        wrong = re.search(
            r"flag --(config\.\S+?)=(.*?): (?:invalid literal for (int)|could not convert)", said
        )
        if wrong:
            raise UserError(
                f"{wrong[1]}={wrong[2]!r}: must be {'a whole number' if wrong[3] else 'a number'}"
            ) from None
        raise UserError(
            f"config: {said.strip(chr(34))} (in {' '.join(arguments)}); correct the override or the"
            " file"
        ) from None
