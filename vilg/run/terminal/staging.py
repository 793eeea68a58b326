"""gs:// paths in the options of verbs: inputs are copied to this machine before the verb runs, and
outputs are copied to the bucket after it, even after an error.

Verbs know nothing of this. Workdirs are not staged, because a run writes into its workdir all the
time (vilg/paths.py)."""

import argparse
import contextlib
import sys
from collections.abc import Iterator

from vilg.paths import local, written_to
from vilg.types import UserError

WRITTEN = ("out", "json", "hlo")  # options that name outputs
# Options, by verb ("*": every verb), whose paths the verb opens in the bucket itself.
NATIVE = {
    "*": ("workdir", "ranker"),
    "sweep": ("out",),
    "launch": ("workdir", "cache", "out"),
}
# Options, by verb, of directories in which the verb works, and which have to be local.
LOCAL = {
    "compare": ("out", "workdirs"),
    "judge": ("out",),
    "assemble": ("out", "parts"),
    "quickstart": ("workdir",),
}


@contextlib.contextmanager
def staged(verb: str, args: argparse.Namespace) -> Iterator[None]:
    """While the verb runs, local paths stand in the arguments for remote ones.

    Errors: UserError for a directory that has to be local, and for an input that does not exist."""
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
                path = ended.enter_context(written_to(value))
                said.append(f"vilg {verb}: {name} is {value}")
            else:
                path = local(value)
            setattr(args, name, str(path))
        yield
    for line in said:
        print(line, file=sys.stderr)
