"""A run's log as a table with a row for every logged step and a column for every number."""

import html
from collections.abc import Mapping, Sequence

import numpy as np


class MetricTable:
    """`table["loss"]` is a float array [rows], NaN where a step has no such number."""

    def __init__(self, rows: Sequence[Mapping[str, object]]):
        self.rows = list(rows)

    @property
    def columns(self) -> list[str]:
        """The names of all numbers, in the order in which they first occur."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.columns:
            raise KeyError(f"{name}: the log has {', '.join(self.columns)}")
        return np.array([row.get(name, np.nan) for row in self.rows], float)

    def to_dict(self) -> dict[str, np.ndarray]:
        """The columns by name, as pandas.DataFrame takes them."""
        return {name: self[name] for name in self.columns}

    def __repr__(self) -> str:
        return f"<{len(self)} logged steps: {', '.join(self.columns)}>"

    def _repr_html_(self) -> str:
        """The HTML that a notebook shows: the first and the last rows of the table."""
        columns = [name for name in self.columns if name != "time"]
        shown = self.rows if len(self.rows) <= 12 else [*self.rows[:3], *self.rows[-8:]]
        head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{_cell(row.get(name))}</td>" for name in columns) + "</tr>"
            for row in shown
        )
        return f"<table><tr>{head}</tr>{body}</table><p>{len(self)} logged steps</p>"


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.5g}" if isinstance(value, float) else str(value)
