"""The synthetic source: the record schema, and records that are a pure function of (config, i)."""

import json
import pickle
import random
import time

import numpy as np
import pytest

from vilg.config import build
from vilg.data.scenes.captions import caption_is_right
from vilg.data.scenes.render import PATTERNS, paint_background, render
from vilg.data.scenes.sampling import STYLES, sample_background
from vilg.data.scenes.scene import Background, Object, Scene
from vilg.data.scenes.scorer import score
from vilg.data.scenes.source import Synthetic, cell
from vilg.types import UserError


def test_a_record_has_the_schema_and_tells_the_truth():
    source = Synthetic(annotations=True, split="test")
    for i in range(20):
        record = source[i]
        assert record["image"].shape == (32, 32, 3) and record["image"].dtype == np.uint8
        scene = Scene.from_dict(json.loads(json.dumps(record["scene"])))
        assert score(record["image"], scene).everything
        assert [c["language"] for c in record["captions"]] == ["zh", "en"]
        assert all(caption_is_right(c["text"], scene, c["language"]) for c in record["captions"])
        assert len(record["boxes"]) == len(scene.objects) and len(record["words"]) == len(
            record["captions"]
        )
        for box, o in zip(record["boxes"], scene.objects, strict=True):
            assert box["xyxy"] == list(o.box) and box["label"] == f"{o.size} {o.colour} {o.shape}"
        for words, caption in zip(record["words"], record["captions"], strict=True):
            assert "".join(w["text"] for w in words) == caption["text"].replace(" ", "")
        assert {"question", "answers", "language"} == set(record["qa"][0])
        assert (
            record["source"] == "synthetic"
            and record["license"]
            and record["id"] == f"synthetic/test/0/{i}"
        )


def test_training_records_are_bare():
    assert set(Synthetic()[3]) == {"id", "image", "captions", "source", "license", "scene"}


def test_a_record_is_a_function_of_config_and_index():
    source = Synthetic(seed=5)
    again = pickle.loads(pickle.dumps(source))
    for i in (7, 0, 999_999):
        a, b = source[i], again[i]
        assert np.array_equal(a.pop("image"), b.pop("image")) and a == b
    assert source[0]["scene"] != source[1]["scene"] != Synthetic(seed=6)[1]["scene"]
    assert source[0]["scene"] != Synthetic(seed=5, split="valid")[0]["scene"]


def test_languages_are_as_asked_and_wordings_vary():
    source = Synthetic(languages=("en",), max_objects=1)
    texts = [source[i]["captions"] for i in range(40)]
    assert all(len(c) == 1 and c[0]["language"] == "en" for c in texts)
    assert len({c[0]["text"].split()[0] for c in texts}) >= 3


def test_length_and_range():
    source = Synthetic(n=10)
    assert len(source) == 10
    with pytest.raises(IndexError):
        source[10]


def test_plain_snapped_pictures_have_one_background_patch():
    """The quickstart's small codec needs few different 4 x 4 patches at 32 pixels.

    One of them is the background."""
    source = Synthetic(snap=4, backgrounds=("plain",), max_objects=2, groups=0.0, pairs="all")
    patches = np.concatenate(
        [
            source[i]["image"].reshape(8, 4, 8, 4, 3).swapaxes(1, 2).reshape(64, 48)
            for i in range(1500)
        ]
    )
    kinds, counts = np.unique(patches, axis=0, return_counts=True)
    assert len(kinds) <= 1040  # 1,033 in 30,000 pictures
    assert np.ptp(kinds[counts.argmax()]) == 0 and counts.max() / counts.sum() > 0.7


def test_cells():
    source = Synthetic(snap=4, backgrounds=("plain",))
    scenes = cell(source, objects=2, pairs="seen", n=50)
    assert len(scenes) == 50 and all(len(s.objects) == 2 and s.relation for s in scenes)
    assert scenes == cell(source, 2, "seen", 50) != cell(source, 2, "seen", 50, split="valid")
    assert all(s.background == Background() and (s.objects[0].x * 32) % 4 == 0 for s in scenes)
    held = cell(source, objects=1, pairs="held_out", n=50)
    assert len({o.pair for s in held for o in s.objects}) == 5


@pytest.mark.parametrize(
    "field, value",
    [
        ("n", 0),
        ("split", "dev"),
        ("languages", ["fr"]),
        ("languages", []),
        ("seed", -1),
        ("snaps", 4),
        ("snap", 9),
    ],
)
def test_a_wrong_field_is_named(field, value):
    with pytest.raises(UserError, match=f"data.{field}|{field}"):
        build(Synthetic, {field: value}, "data")


@pytest.mark.parametrize("style", STYLES)
def test_backgrounds_are_grey_within_range_and_differ(style):
    painted = [
        paint_background(sample_background(random.Random(seed), style), 32) for seed in range(20)
    ]
    assert all(p.shape == (32, 32) and 0.4 <= p.min() and p.max() <= 1 for p in painted)
    if style == "plain":
        assert all(np.array_equal(p, painted[0]) and np.ptp(p) == 0 for p in painted)
    else:
        assert len({p.tobytes() for p in painted}) == 20 and all(np.ptp(p) > 0.04 for p in painted)


def test_styles_differ():
    assert set(PATTERNS) == set(STYLES)
    like = {"light": 0.9, "dark": 0.5, "angle": 0.3, "period": 0.25, "phase": 0.1}
    assert len(
        {paint_background(Background(style, **like), 32).tobytes() for style in STYLES}
    ) == len(STYLES)


def test_edges_are_anti_aliased_and_area_is_right():
    image = render(Scene((Object("circle", "red", "large", 0.47, 0.53),)), 64).astype(float)
    ink = (224 - image[:, :, 1]) / (224 - 20)
    assert abs(ink.sum() - np.pi * 14**2) < 4
    assert abs((ink * (np.arange(64) + 0.5)).sum() / ink.sum() - 0.47 * 64) < 0.1
    assert ((ink > 0.1) & (ink < 0.9)).any()


def test_larger_pictures_show_the_same_scene():
    scene = Synthetic(backgrounds=("plain",)).scene(4)
    small, large = (
        render(scene, 32).astype(float),
        render(scene, 128).reshape(32, 4, 32, 4, 3).mean((1, 3)),
    )
    assert abs(small - large).max() < 16


def test_rendering_is_quick():
    source = Synthetic()
    scenes = [source.scene(i) for i in range(300)]
    [render(scene) for scene in scenes]
    start = time.process_time()
    [render(scene) for scene in scenes]
    assert (time.process_time() - start) / 300 < 0.75e-3  # 0.25 ms when idle; cores here are shared


def test_captions_may_omit_objects_which_machine_captions_then_name():
    plain, source, omits = Synthetic(annotations=True), Synthetic(annotations=True, omitted=0.5), 0
    for i in range(200):
        whole, record = plain[i], source[i]
        assert np.array_equal(whole["image"], record["image"]) and whole["scene"] == record["scene"]
        scene = Scene.from_dict(record["scene"])
        if "machine_captions" not in record:
            assert record["captions"] == whole["captions"]
            continue
        omits += 1
        assert (
            len(scene.objects) > 1
            and not scene.group
            and record["machine_captions"] == whole["captions"]
        )
        assert all(
            caption_is_right(c["text"], Scene(scene.objects[:1]), c["language"])
            for c in record["captions"]
        )
        assert record["machine_words"] == whole["words"] and len(record["boxes"]) == len(
            scene.objects
        )
        for o, box in zip(scene.objects, record["boxes"], strict=True):
            assert (
                caption_is_right(f"一个{box['labels']['zh']}", Scene((o,)), "zh")
                and box["labels"]["en"] == box["label"]
            )
    several = sum(
        len(Scene.from_dict(plain[i]["scene"]).objects) > 1
        and not Scene.from_dict(plain[i]["scene"]).group
        for i in range(200)
    )
    assert 0.35 < omits / several < 0.65
    with pytest.raises(UserError, match="omitted=1.5: must be a share of pictures"):
        Synthetic(omitted=1.5)
