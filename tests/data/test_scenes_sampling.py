"""Random scenes fit into the picture, keep their distances, never show withheld pairs, and belong
to one split only."""

import random
from collections import Counter
from itertools import combinations

import pytest

from vilg.config import build
from vilg.data.scenes.sampling import STYLES, SceneConfig, sample_scene, withheld_pairs
from vilg.data.scenes.scene import COLOURS, GAP, RELATIONS, SHAPES, SIZES, Scene, relation_between
from vilg.types import UserError


def draw(n, seed=0, split="train", **config):
    rng = random.Random(seed)
    return [sample_scene(rng, SceneConfig(**config), split) for _ in range(n)]


def test_vocabulary():
    assert len(COLOURS) == 8 and len(SHAPES) == 6 and len(SIZES) == 3


@pytest.mark.parametrize(
    "size, snap", [(32, 0), (32, 4), (32, 8), (48, 6), (64, 0), (64, 8), (256, 32)]
)
def test_objects_are_inside_and_apart(size, snap):
    for scene in draw(300, image_size=size, snap=snap, groups=0.4):
        for o in scene.objects:
            assert min(o.box) >= 0 and max(o.box) <= 1
            assert not snap or (o.x * size % snap == 0 and o.y * size % snap == 0)
        for a, b in combinations(scene.objects, 2):
            apart = max(abs(a.x - b.x), abs(a.y - b.y)) - (SIZES[a.size] + SIZES[b.size]) / 2
            assert apart >= GAP - 1e-6


def test_snapped_objects_share_no_cell():
    for scene in draw(300, snap=4, min_objects=2):
        cells = [
            {
                (x, y)
                for x in range(8)
                for y in range(8)
                if l < (x + 1) / 8 and x / 8 < r and t < (y + 1) / 8 and y / 8 < b
            }
            for l, t, r, b in (o.box for o in scene.objects)  # noqa: E741
        ]
        assert all(not a & b for a, b in combinations(cells, 2))


@pytest.mark.parametrize("snap", [0, 4])
def test_everything_occurs_about_evenly(snap):
    scenes = draw(
        3000, groups=0.3, snap=snap, weights=(0.4, 0.4, 0.2)
    )  # three large objects seldom fit
    objects = [o for scene in scenes for o in scene.objects]
    for values, names in (
        ([o.colour for o in objects], COLOURS),
        ([o.shape for o in objects], SHAPES),
        ([o.size for o in objects], SIZES),
    ):
        counted = Counter(values)
        assert set(counted) == set(names)
        assert min(counted.values()) > 0.7 * max(counted.values())
    related = Counter(s.relation for s in scenes if s.relation)
    assert set(related) == set(RELATIONS) and min(related.values()) > 0.8 * max(related.values())
    assert set(Counter(len(s.objects) for s in scenes if s.group)) == {2, 3}
    assert {s.background.style for s in scenes} == set(STYLES)


def test_relation_is_where_the_first_object_is():
    for scene in draw(300, min_objects=2, groups=0.0):
        a, b = scene.objects[:2]
        assert scene.relation == relation_between(a, b)
        assert {"left": a.x < b.x, "right": a.x > b.x, "above": a.y < b.y, "below": a.y > b.y}[
            scene.relation
        ]
        assert len({o.pair for o in scene.objects}) == len(scene.objects)


def test_weights_are_the_shares_of_object_counts():
    counted = Counter(len(s.objects) for s in draw(2000, max_objects=2, weights=(0.25, 0.75)))
    assert 0.7 < counted[2] / 2000 < 0.8


@pytest.mark.parametrize("share, count", [(0.1, 5), (0.3, 14), (0.8, 38)])
def test_withheld_pairs_leave_every_colour_and_shape_seen(share, count):
    kept = withheld_pairs(share)
    seen = {(c, s) for c in COLOURS for s in SHAPES} - kept
    assert len(kept) == count
    assert {c for c, _ in seen} == set(COLOURS) and {s for _, s in seen} == set(SHAPES)


def test_withheld_pairs_are_the_same_everywhere():
    assert withheld_pairs(0.1) == {
        ("purple", "cross"),
        ("cyan", "triangle"),
        ("orange", "square"),
        ("green", "ring"),
        ("red", "diamond"),
    }


@pytest.mark.parametrize("objects", [1, 2, 3])
def test_seen_and_held_out(objects):
    kept = withheld_pairs(0.1)
    asked = {"min_objects": objects, "max_objects": objects}
    assert not any(o.pair in kept for s in draw(400, pairs="seen", **asked) for o in s.objects)
    assert all(any(o.pair in kept for o in s.objects) for s in draw(400, pairs="held_out", **asked))
    assert (
        0
        < sum(o.pair in kept for s in draw(400, pairs="all", **asked) for o in s.objects)
        < 0.2 * 400 * objects
    )


def test_splits_share_no_scene():
    one = {"snap": 4, "max_objects": 1}  # few enough different ones that splits would meet
    counts = {
        "train": 1500,
        "valid": 300,
        "test": 300,
    }  # of twenty scenes one is valid, one test: each drawn costs twenty
    seen = {
        split: {(s.objects, s.relation) for s in draw(n, split=split, **one)}
        for split, n in counts.items()
    }
    assert (
        not seen["train"] & seen["test"]
        and not seen["train"] & seen["valid"]
        and not seen["valid"] & seen["test"]
    )
    assert min(map(len, seen.values())) > 100


def test_a_scene_survives_its_dictionary():
    for scene in draw(50):
        assert Scene.from_dict(scene.to_dict()) == scene


@pytest.mark.parametrize(
    "field, value",
    [
        ("image_size", 16),
        ("min_objects", 0),
        ("max_objects", 4),
        ("weights", [1.0]),
        ("groups", 1.5),
        ("groups", float("nan")),
        ("snap", 9),
        ("snap", 7),
        ("snap", True),
        ("backgrounds", ["plain", "plaid"]),
        ("backgrounds", []),
        ("withheld", 0.9),
        ("pairs", "none"),
    ],
)
def test_a_wrong_field_is_named(field, value):
    with pytest.raises(UserError, match=field):
        build(SceneConfig, {field: value}, "data")


def test_held_out_needs_withheld_pairs():
    with pytest.raises(UserError, match="withheld"):
        SceneConfig(withheld=0.0, pairs="held_out")
