"""What would make a program fit that does not: the same layout with less in memory at once, tried
until the compiler takes it.

Separate from plan.py, which compiles what it is asked for. Nothing is guessed: what is told has
been compiled, for the topology, and the cheapest in time comes first. The compiler refuses what
does not fit within a second or so, so that a failed try costs little but tracing."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from vilg.overrides import override, values
from vilg.types import UserError

ACCUMULATIONS = (2, 4, 8, 16)
REMAT = "generator.*.remat"
Changes = dict[str, Any]  # {dotted path of a field: value}, as vilg.overrides.override takes them


def variants(config: Mapping[str, Any], program: str) -> Iterator[Changes]:
    """What to try, in order: of training, microbatches, then rematerialisation, then both; of
    sampling, fewer pictures at once.
    """
    rows = config["training"]["batch_size"]
    if program == "sample":
        yield from ({"training.batch_size": rows // k} for k in ACCUMULATIONS if rows % k == 0)
        return
    now = config["training"].get("accumulation", 1)
    more = [now * k for k in ACCUMULATIONS if rows % (now * k) == 0]
    yield from ({"training.accumulation": k} for k in more[:2])
    if any(remat != "full" for remat in values(config, REMAT)):
        yield {REMAT: "full"}
        yield from ({REMAT: "full", "training.accumulation": k} for k in more)


def first_that_fits(
    config: Mapping[str, Any],
    program: str,
    needs: Callable[[dict[str, Any]], float | None],
    limit: float,
) -> dict[str, Any]:
    """{"would_fit": overrides or None, "tried": [{"options", "needs"}]}. `needs` compiles a config:
    its bytes, None where it has none.
    """
    tried = []
    for changes in variants(config, program):
        try:
            size = needs(override(config, changes))
        except UserError:  # a batch that the layout cannot share out
            continue
        tried.append({"options": changes, "needs": size})
        if size is not None and size <= limit:
            return {"would_fit": changes, "tried": tried}
    return {"would_fit": None, "tried": tried}


def told(row: Mapping[str, Any], fitting: str) -> str:
    """A sentence on a row that does not fit; `fitting` is a layout that does, "" for none."""
    if row.get("would_fit"):
        options = " ".join(
            f"{path.replace('*', '[...]')}={value}" for path, value in row["would_fit"].items()
        )
        return f"it fits with {options}" + (f", or under {fitting}" if fitting else "")
    if not row.get("tried"):
        return f"{fitting} fits" if fitting else "more chips would be needed"
    least = min((t["needs"] for t in row["tried"] if t["needs"]), default=None)
    also = f"; the least that was tried needs {least / 2**30:.2f} GiB" if least else ""
    return (f"{fitting} fits" if fitting else "take more chips or a layout that shards more") + also
