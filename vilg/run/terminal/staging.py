"""gs:// in the options of verbs: what is read is copied here first, what is written is copied there
in the end, even after an error.

Separate from the verbs, so that none of them has to know. Workdirs are not staged: a run writes its
own all the time (vilg/paths.py)."""

import argparse
import contextlib
import sys
from collections.abc import Iterator

from vilg.paths import local, written_to
from vilg.types import UserError

WRITTEN = ("out", "json", "hlo")
NATIVE = {
    "*": ("workdir", "ranker"),
    "sweep": ("out",),
    "launch": ("workdir", "cache", "out"),
}  # by verb; "*" is every verb
LOCAL = {
    "compare": ("out", "workdirs"),
    "judge": ("out",),
    "assemble": ("out", "parts"),
    "quickstart": ("workdir",),
}  # files that verbs work in


@contextlib.contextmanager
def staged(verb: str, args: argparse.Namespace) -> Iterator[None]:
    """The arguments with local paths in the place of remote ones, while the verb runs.

    Errors: UserError for an option whose files the verb works in, and for an input at which there
    is nothing."""
    said: list[str] = []
    with contextlib.ExitStack() as ended:
        for name, value in vars(args).items():
            if not isinstance(value, str) or not value.startswith("gs://") or "\n" in value:
                continue
            if name in LOCAL.get(verb, ()):
                raise UserError(
                    f"{name}={value!r}: `vilg {verb}` works in these files; give a local path, and"
                    " copy them"
                )
            if name in (*NATIVE["*"], *NATIVE.get(verb, ())):
                continue
            if name in WRITTEN:
                here = str(ended.enter_context(written_to(value)))
                said.append(f"vilg {verb}: {name} is {value}")
            else:
                here = str(local(value))
            setattr(args, name, here)
        yield
    for line in said:
        print(line, file=sys.stderr)
