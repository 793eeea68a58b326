"""Every panel of training curves draws the scalars that its table names."""

import pytest

from vilg.report.curves import PANELS, draw_curves


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_draws_every_scalar_that_it_names(panel):
    scalars = PANELS[panel]
    lines = [
        {"step": step, "step_seconds": 0.5, "other": 7.0}
        | {name: 0.1 * step for name in scalars}
        | {f"valid/{name}": 0.2 * step for name in scalars}
        for step in (1, 2, 3)
    ]
    drawn = draw_curves({"run": lines}, {})
    axes = ["step", "wall seconds"] if panel == "loss" else ["step"]
    assert [curve.title for curve in drawn] == [f"run: {panel} against {axis}" for axis in axes]
    for curve in drawn:
        for label in scalars.values():
            assert f"{label} 0.1 to 0.3" in curve.says
            assert f"{label} (valid) 0.2 to 0.6" in curve.says
            assert f">{label}<" in curve.svg and f">{label} (valid)<" in curve.svg
        assert "other" not in curve.says and "http" not in curve.svg


def test_a_run_without_a_scalar_has_no_panel_of_it():
    assert draw_curves({"run": [{"step": 1, "loss": 1.0, "step_seconds": 1.0}]}, {}) == []
