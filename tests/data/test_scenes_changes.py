"""The caption of a changed scene is false of the old picture, and differs in the changed thing
only."""

import random

import pytest

from vilg.data.scenes.captions import caption_is_right, describe, kind_of, parse
from vilg.data.scenes.changes import CHANGES, change
from vilg.data.scenes.scene import INVERSE
from vilg.data.scenes.source import Synthetic
from vilg.types import UserError

SCENES = [Synthetic(n=200).scene(i) for i in range(200)]


@pytest.mark.parametrize("kind", CHANGES)
def test_the_changed_caption_is_false_and_the_rest_is_kept(kind):
    seen = 0
    for i, scene in enumerate(SCENES):
        other = change(scene, kind, random.Random(i))
        if other is None:
            continue
        seen += 1
        language = ("zh", "en")[i % 2]
        right, wrong = (describe(s, language, 1) for s in (scene, other))
        assert caption_is_right(right.text, scene, language) and not caption_is_right(
            wrong.text, scene, language
        ), wrong.text
        was, says = parse(right.text), parse(wrong.text)
        if kind in ("colour", "shape", "size"):
            place = ("size", "colour", "shape").index(kind)
            changed = [(a, b) for a, b in zip(was.objects, says.objects, strict=True) if a != b]
            assert len(changed) == 1 and [
                k for k in range(3) if changed[0][0][k] != changed[0][1][k]
            ] == [place]
            assert (was.relation, was.count) == (says.relation, says.count) and kind_of(
                scene
            ) == kind_of(other)
        elif kind == "count":
            assert was.objects == says.objects and was.count != says.count
        elif kind == "relation":
            assert was.objects == says.objects and says.relation == INVERSE[was.relation]
        else:
            assert sorted(w for w, _ in right.words) == sorted(w for w, _ in wrong.words), (
                "binding keeps every word"
            )
    assert seen > 40


def test_what_is_not_there_cannot_be_changed():
    lone, several = (next(s for s in SCENES if kind_of(s) == kind) for kind in ("one", "two"))
    rng = random.Random(0)
    assert (
        change(lone, "relation", rng) is None
        and change(lone, "binding", rng) is None
        and change(several, "count", rng) is None
    )
    with pytest.raises(UserError, match="change='color': did you mean 'colour'"):
        change(lone, "color", rng)
