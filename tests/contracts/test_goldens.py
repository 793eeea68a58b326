"""Placement as reviewed text: a line an array. UPDATE_GOLDENS=1 rewrites the files."""

import os
from pathlib import Path

import jax
import pytest

from vilg.experiment import build_experiment
from vilg.experiment_file import load_config
from vilg.fit import path_name
from vilg.parallel.layouts import LAYOUTS
from vilg.program import Program, is_box

GOLDENS = Path("tests/goldens")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_placement_is_what_was_reviewed(layout):
    experiment = build_experiment(load_config("experiments/ernie_vilg.py:lite"))
    program = Program(experiment, layout=LAYOUTS[layout]())
    lines = [
        f"# ernie_vilg:lite, layout {layout} {program.sizes}: array, shape, params, gradients,"
        " optimizer"
    ]
    for path, box in jax.tree_util.tree_flatten_with_path(program.boxed, is_leaf=is_box)[0]:
        specs = [
            program.layout.spec(t, tuple(box.names), box.value.shape, program.sizes)
            for t in ("params", "gradients", "optimizer")
        ]
        shown = "  ".join(str(tuple(s)).replace("'", "") for s in specs)
        lines.append(f"{path_name(path)}  {box.value.shape}  {shown}")
    text = "\n".join(lines) + "\n"
    file = GOLDENS / f"{layout}.txt"
    if os.environ.get("UPDATE_GOLDENS"):
        GOLDENS.mkdir(exist_ok=True)
        file.write_text(text)
    assert file.read_text() == text, (
        f"placement changed; review it and run UPDATE_GOLDENS=1 pytest {__file__}"
    )
