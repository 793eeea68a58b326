"""The rows of `vilg verify` for people."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Column, Table

SHORT = {
    "all-reduce": "AR",
    "all-gather": "AG",
    "reduce-scatter": "RS",
    "all-to-all": "A2A",
    "collective-permute": "CP",
}


def show(rows: Sequence[Mapping[str, Any]], devices: int) -> None:
    """Prints the table, and below it the rows that differ or were not compared."""
    table = Table(
        # names are folded, so that they are complete on a narrow screen
        *(Column(name, overflow="fold") for name in ("layout", "options")),
        *(Column(name, justify="right", no_wrap=True) for name in ("loss", "grads", "sharded")),
        "collectives",
        Column("verdict", no_wrap=True),
        title=f"one step on {devices} devices against one, relative errors",
        caption=", ".join(f"{short}: {kind}" for kind, short in SHORT.items()),
    )
    for row in rows:
        if row["error"]:
            table.add_row(row["layout"], options_text(row["options"]), *["-"] * 4, "none")
            continue
        table.add_row(
            f"{row['layout']} {'x'.join(map(str, row['mesh'].values()))}",
            options_text(row["options"]),
            f"{row['loss_error']:.1e}",
            f"{row['gradient_error']:.1e}",
            f"{row['sharded_fraction']:.0%}",
            collectives_text(row["collectives"]),
            row["status"],
        )
    Console().print(table)
    for row in rows:
        for line in notes(row):
            print(f"{row['layout']}: {line}")


def options_text(options: Mapping[str, object]) -> str:
    """Options as "remat=full, scan=True"."""
    return ", ".join(f"{name}={value}" for name, value in options.items())


def collectives_text(collectives: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """The number of each kind of collective, as "AR 3, AG 12"."""
    counts: Counter[str] = Counter()
    for kinds in collectives.values():
        for kind, entry in kinds.items():
            counts[SHORT.get(kind, kind)] += int(entry["count"])
    return ", ".join(f"{kind} {count}" for kind, count in counts.items()) or "none"


def notes(row: Mapping[str, Any]) -> Iterator[str]:
    """The sentences on a row: why it was not compared, which leaf differs, warnings."""
    if row["error"]:
        yield row["error"]
    elif row["status"] == "differs":
        yield (
            f"{row['first_leaf'] or 'the loss'} differs; the worst is {row['worst_leaf']}"
            f" ({row['gradient_error']:.1e})"
        )
    elif row["status"] == "invalid":
        yield f"no collectives on {row['devices']} devices: it computes something else"
    yield from row["warnings"]
