"""Masks against the position-by-position oracle, the layer schedule, and the mistakes that a config
can make.
"""

from collections import Counter

import numpy as np
import pytest

from tests.nn import pattern_oracle
from vilg.nn.geometry import DIRECTIONS, Geometry
from vilg.nn.layer_patterns import SCHEDULES, schedule
from vilg.nn.patterns import PATTERNS, Pattern, PatternOptions, make_pattern
from vilg.types import UserError


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("grid", [(4, 4), (8, 8), (4, 6), (32, 32)])
@pytest.mark.parametrize("variant", pattern_oracle.VARIANTS)
def test_mask_is_the_oracles(variant, grid, direction):
    name, row_mode, size = variant
    pattern = make_pattern(name, PatternOptions(row_mode=row_mode, convolution=size))
    expected = pattern_oracle.mask(*variant, direction, 3, grid)
    np.testing.assert_array_equal(Geometry(pattern, direction, 3, grid).mask(), expected)


def test_oracle_covers_every_pattern():
    assert {name for name, *_ in pattern_oracle.VARIANTS} == set(PATTERNS)


def test_sizes_of_the_paper():
    """PAPERS 2.2 on a 32 x 32 grid: row 33, column up to 32, convolution 61 visible image keys."""
    middle = 30 * 32 + 16
    sizes = {
        name: Geometry(make_pattern(name), "text_to_image", 0, (32, 32)).mask()[middle].sum()
        for name in PATTERNS
    }
    assert sizes == {"dense": middle + 1, "row": 33, "column": 31, "convolution": 61}


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("layers", [1, 2, 48])
def test_every_schedule_names_a_known_pattern_for_each_layer(name, layers):
    names = schedule(name, layers)
    assert len(names) == layers
    assert all(isinstance(make_pattern(pattern), Pattern) for pattern in names)


def test_schedule():
    assert schedule("ernie_vilg", 6) == ("row", "column", "row", "row", "row", "convolution")
    assert Counter(schedule("ernie_vilg", 48)) == {"row": 35, "column": 12, "convolution": 1}
    assert Counter(schedule("ernie_vilg", 24)) == {"row": 17, "column": 6, "convolution": 1}
    assert schedule("dense", 2) == ("dense", "dense")
    assert schedule(["row", "dense"], 2) == ("row", "dense")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: make_pattern("colum"), "pattern='colum': did you mean 'column'"),
        (lambda: PatternOptions(convolution=10), "convolution=10: the window must be odd"),
        (
            lambda: PatternOptions(row_mode="window"),
            "row_mode='window': must be 'raster_window' or 'same_row'",
        ),
        (lambda: schedule("ernie_vlg", 4), "patterns='ernie_vlg': did you mean 'ernie_vilg'"),
        (lambda: schedule(("row",), 2), "one pattern for each of the 2 layers"),
        (lambda: schedule(("row", "cow"), 2), r"patterns\[1\]='cow': did you mean 'row'"),
        (lambda: schedule("dense", 0), "layers=0"),
        (
            lambda: Geometry(make_pattern("row"), "image_to_txt", 1, (2, 2)),
            "direction='image_to_txt': did you mean 'image_to_text'",
        ),
        (lambda: Geometry(make_pattern("row"), "image_to_text", 1, (0, 2)), r"grid=\(0, 2\)"),
    ],
)
def test_mistakes_are_named(call, said):
    with pytest.raises(UserError, match=said):
        call()
