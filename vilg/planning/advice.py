"""Options with which a program would fit that does not: the same layout with less in memory at
once.

Separate from row.py, which compiles what is asked for. No option is guessed: each is compiled for
the topology, the one that costs the least time first, until one fits. The compiler refuses what
does not fit within about a second, so that a failed attempt costs little more than its tracing."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from vilg.overrides import override, values
from vilg.planning.chips import GIB
from vilg.types import UserError

FACTORS = (2, 4, 8, 16)  # by which a batch is divided
REMAT = "generator.*.remat"
Changes = dict[str, Any]  # {dotted path of a field: value}, as vilg.overrides.override takes them


def attempts(config: Mapping[str, Any], program: str) -> Iterator[Changes]:
    """The changes to try, in order: for training, more microbatches, then rematerialisation, then
    both; for sampling, fewer pictures at once.
    """
    rows = config["training"]["batch_size"]
    if program == "sample":
        yield from ({"training.batch_size": rows // k} for k in FACTORS if rows % k == 0)
        return
    now = config["training"].get("accumulation", 1)
    accumulations = [now * k for k in FACTORS if rows % (now * k) == 0]
    yield from ({"training.accumulation": k} for k in accumulations[:2])
    if any(remat != "full" for remat in values(config, REMAT)):
        yield {REMAT: "full"}
        yield from ({REMAT: "full", "training.accumulation": k} for k in accumulations)


def first_that_fits(
    config: Mapping[str, object],
    program: str,
    needs: Callable[[dict[str, object]], float | None],
    limit: float,
) -> dict[str, object]:
    """{"would_fit": Changes or None, "tried": [{"options": Changes, "needs": bytes}]}.

    `needs` compiles a config and gives its bytes, None where the compiler tells none; `limit` is
    the memory of a device in bytes."""
    tried = []
    for changes in attempts(config, program):
        try:
            size = needs(override(config, changes))
        except UserError:  # a batch that the layout cannot divide
            continue
        tried.append({"options": changes, "needs": size})
        if size is not None and size <= limit:
            return {"would_fit": changes, "tried": tried}
    return {"would_fit": None, "tried": tried}


def remedy(row: Mapping[str, Any], fitting: str) -> str:
    """A sentence that says what would make a row fit; `fitting` is a layout that fits, "" for
    none.
    """
    if row.get("would_fit"):
        options = " ".join(
            f"{path.replace('*', '[...]')}={value}" for path, value in row["would_fit"].items()
        )
        return f"it fits with {options}" + (f", or under {fitting}" if fitting else "")
    if not row.get("tried"):
        return f"{fitting} fits" if fitting else "more chips would be needed"
    least = min((t["needs"] for t in row["tried"] if t["needs"]), default=None)
    also = f"; the least that was tried needs {least / GIB:.2f} GiB" if least else ""
    return (f"{fitting} fits" if fitting else "take more chips or a layout that shards more") + also
