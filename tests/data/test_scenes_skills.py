"""Skills on rendered scenes: a right picture shows all of them, and each alteration costs exactly
the skill that it breaks."""

import random
from collections import Counter
from dataclasses import replace
from functools import lru_cache

import pytest

from vilg.data.scenes.render import render
from vilg.data.scenes.sampling import SPLITS, SceneConfig, in_split, withheld_pairs
from vilg.data.scenes.scene import (
    COLOURS,
    GAP,
    INVERSE,
    RELATIONS,
    SHAPES,
    SIZES,
    Object,
    Scene,
    relation_between,
)
from vilg.data.scenes.scorer import Reading, read
from vilg.data.scenes.skills import CATEGORIES, SKILLS, draw_scenes, drawable, judge_skills
from vilg.types import UserError

SOURCE = SceneConfig()
A, B = Object("circle", "red", "small", 0.25, 0.3), Object("square", "blue", "large", 0.7, 0.35)
TWO = Scene((A, B), "left")
ALL = {*SKILLS, "everything"}


@lru_cache
def scenes(category):
    return draw_scenes(SOURCE, category, 24, "test")


def shown(picture: Scene, asked: Scene):
    """The skills of a rendered scene."""
    return judge_skills(read(render(picture, 32)), asked)


def failed(skills):
    return {name for name, right in skills.items() if right is False}


def unasked(skills):
    return {name for name, right in skills.items() if right is None}


def swapped(scene: Scene, name: str) -> Scene:
    a, b = scene.objects
    return replace(
        scene,
        objects=(replace(a, **{name: getattr(b, name)}), replace(b, **{name: getattr(a, name)})),
    )


@pytest.mark.parametrize("category", CATEGORIES)
def test_a_right_picture_shows_every_skill_and_the_one_that_decides(category):
    for scene in scenes(category):
        skills = shown(scene, scene)
        assert set(skills) == ALL and not failed(skills)
        assert skills[CATEGORIES[category].skill] is True
        lone = {"relation", "binding"} if category in ("single_object", "count") else set()
        assert unasked(skills) == (
            lone or ({"binding"} if category in ("colour", "shape") else set())
        )


@pytest.mark.parametrize("category", CATEGORIES)
def test_a_category_asks_for_what_it_says(category):
    found, chosen = scenes(category), CATEGORIES[category]
    numbers = Counter(len(s.objects) for s in found)
    assert numbers == (
        {2: 12, 3: 12}
        if category == "count"
        else {1: 24}
        if category == "single_object"
        else {2: 24}
    )
    for scene in found:
        differing = {
            n
            for n in ("size", "colour", "shape")
            if len({getattr(o, n) for o in scene.objects}) > 1
        }
        assert differing == (set(chosen.differ) if len(scene.objects) > 1 else set())
        assert not any(o.pair in withheld_pairs(SOURCE.withheld) for o in scene.objects)
        assert scene.group == (category == "count")
    assert len({repr(s) for s in found}) == 24
    if category == "relation":
        assert Counter(s.relation for s in found) == dict.fromkeys(RELATIONS, 6)


@pytest.mark.parametrize("name", ["colour", "shape", "size"])
def test_a_swap_costs_the_binding_alone(name):
    tried = 0
    for scene in scenes("binding"):
        picture = swapped(scene, name)
        if fits(picture):
            tried += 1
            assert failed(shown(picture, scene)) == {"binding", "everything"}
    assert tried >= 4


@pytest.mark.parametrize("name", ["colour", "shape", "size"])
def test_another_value_costs_that_attribute_alone(name):
    rng, tried = random.Random(0), 0
    table = {"colour": COLOURS, "shape": SHAPES, "size": SIZES}[name]
    for scene in (*scenes("single_object"), *scenes("binding")):
        i = rng.randrange(len(scene.objects))
        others = [v for v in table if v not in {getattr(o, name) for o in scene.objects}]
        objects = tuple(
            replace(o, **{name: rng.choice(others)}) if j == i else o
            for j, o in enumerate(scene.objects)
        )
        picture = replace(scene, objects=objects)
        if fits(picture):
            tried += 1
            skills = shown(picture, scene)
            assert failed(skills) == {name, "everything"} and skills["binding"] is None
    assert tried >= 10


def test_a_wrong_count_costs_the_count_alone():
    for scene in scenes("count"):
        fewer = replace(scene, objects=scene.objects[1:])
        assert failed(shown(fewer, scene)) == {"count", "everything"}
        skills = shown(
            scene, fewer if len(fewer.objects) > 1 else replace(scene, objects=scene.objects[:1])
        )
        assert failed(skills) == {"count", "everything"}
    twice = replace(TWO, objects=(A, B, replace(A, y=0.8)))
    assert failed(shown(twice, TWO)) == {"count", "everything"} and unasked(shown(twice, TWO)) == {
        "binding"
    }
    assert failed(shown(replace(TWO, objects=(A,)), TWO)) == {
        "count",
        "colour",
        "shape",
        "size",
        "relation",
        "everything",
    }
    stranger = replace(TWO, objects=(A, B, Object("ring", "green", "small", 0.2, 0.8)))
    assert failed(shown(stranger, TWO)) == {"count", "colour", "shape", "everything"}, (
        "a size that was asked for"
    )


def test_changed_places_cost_the_relation_alone():
    for scene in scenes("relation"):
        assert failed(shown(scene, replace(scene, relation=INVERSE[scene.relation]))) == {
            "relation",
            "everything",
        }
        upside = replace(scene, objects=tuple(replace(o, x=o.y, y=o.x) for o in scene.objects))
        assert failed(shown(upside, scene)) == {"relation", "everything"}


def test_a_right_count_asks_for_each_value_as_often():
    reds = Scene(
        (A, replace(B, colour="red"), replace(B, colour="red", size="small", x=0.3, y=0.8)), "left"
    )
    asked = replace(reds, objects=(*reds.objects[:2], replace(reds.objects[2], colour="blue")))
    other = replace(
        reds, objects=(A, replace(B, colour="blue"), replace(reds.objects[2], colour="blue"))
    )
    assert "colour" in failed(shown(other, asked)) and "count" not in failed(shown(other, asked))


def test_a_picture_that_cannot_be_read_shows_nothing():
    skills = judge_skills(Reading(reason="an edge is too soft"), TWO)
    assert failed(skills) == ALL - {"binding"} and skills["binding"] is None
    assert judge_skills(Reading(reason="no object"), Scene((A,)))["relation"] is None


def test_only_what_the_data_has_is_drawn():
    assert list(drawable(SOURCE)) == list(CATEGORIES)
    assert list(drawable(SceneConfig(max_objects=1))) == ["single_object"]
    assert "count" not in drawable(SceneConfig(groups=0.0)) and list(
        drawable(SceneConfig(groups=1.0))
    ) == ["single_object", "count"]
    assert "single_object" not in drawable(SceneConfig(weights=(0.0, 1.0, 0.0))) and drawable(
        SceneConfig(weights=(0.0, 1.0, 0.0))
    )["count"] == (2,)
    with pytest.raises(
        UserError, match="category='count': the data draws no such scenes; it has single_object"
    ):
        draw_scenes(SceneConfig(max_objects=1), "count", 2, "test")
    with pytest.raises(UserError, match="category='colours': did you mean 'colour'"):
        draw_scenes(SOURCE, "colours", 2, "test")


def test_splits_and_seeds_share_no_scene():
    drawn = [
        {
            repr(replace(s, background=TWO.background))
            for s in draw_scenes(SOURCE, "relation", 8, split)
        }
        for split in SPLITS
    ]
    assert not set.intersection(*drawn) and len(set.union(*drawn)) == 24
    assert all(
        in_split(Scene(s.objects, s.relation), "test")
        for category in CATEGORIES
        for s in scenes(category)
    )
    assert (
        draw_scenes(SOURCE, "relation", 3, "test")
        == scenes("relation")[:3]
        != draw_scenes(SOURCE, "relation", 3, "test", seed=1)
    )


def fits(scene: Scene) -> bool:
    """Whether resized objects are still inside the picture, apart, and in the scene's relation."""
    inside = all(min(o.box[:2]) >= 0 and max(o.box[2:]) <= 1 for o in scene.objects)
    apart = all(
        max(abs(a.x - b.x), abs(a.y - b.y)) >= (SIZES[a.size] + SIZES[b.size]) / 2 + GAP
        for i, a in enumerate(scene.objects)
        for b in scene.objects[:i]
    )
    return (
        inside
        and apart
        and (scene.relation is None or relation_between(*scene.objects) == scene.relation)
    )
