"""The evaluator of prompts on subjects whose pictures and features are known."""

import types
from dataclasses import replace

import numpy as np
import pytest

from tests.conftest import tiny_config
from vilg.data.scenes.captions import parse
from vilg.data.scenes.render import render
from vilg.data.scenes.scene import Object, Scene
from vilg.evals.numbers import flat_results
from vilg.evals.prompts import Judged, Prompts, evenly, summarize
from vilg.experiment import build_experiment
from vilg.metrics.intervals import interval, t_interval
from vilg.report.guidance import PANELS, find, limits
from vilg.types import UserError

PLACES = {"left": (0.25, 0.5), "right": (0.75, 0.5), "above": (0.5, 0.25), "below": (0.5, 0.75)}


def drawn(said):
    """The scene that a caption asks for, somewhere."""
    if said.relation is None:
        size, colour, shape = said.objects[0]
        spots = [(0.25, 0.25), (0.75, 0.75), (0.25, 0.75)][: said.count]
        return Scene(tuple(Object(shape, colour, size, x, y) for x, y in spots))
    x, y = PLACES[said.relation]
    (size, colour, shape), (size_b, colour_b, shape_b) = said.objects[:2]
    return Scene(
        (Object(shape, colour, size, x, y), Object(shape_b, colour_b, size_b, 1 - x, 1 - y)),
        said.relation,
    )


def swap_colours(scene):
    if scene.relation is None:
        return scene
    a, b = scene.objects
    return replace(scene, objects=(replace(a, colour=b.colour), replace(b, colour=a.colour)))


class Painter:
    """Paints what is asked, but for what `change` does to it in a language."""

    program = params = frozen = text_model = None
    codes = pictures = caption = batched = apply = apply_to_texts = len

    def __init__(self, change=lambda scene: scene, languages=("zh", "en"), **data):
        config = tiny_config(data__train=dict(name="synthetic", image_size=32, **data))
        self.experiment = build_experiment(config)
        self.change, self.languages = change, languages

    def sample(self, prompts, controls, seed, languages):
        scenes = [drawn(parse(p)) for p in prompts]
        assert [parse(p).language for p in prompts] == list(languages)
        scenes = [
            self.change(s) if g in self.languages else s
            for s, g in zip(scenes, languages, strict=True)
        ]
        return [types.SimpleNamespace(image=render(s, 32)) for s in scenes]


def skills(result):
    return {name: figure["score"] for name, figure in result["skills"].items()}


def test_a_right_painter_is_right_in_every_category_and_language():
    found = Prompts(n=4)(Painter())
    names = ["single_object", "colour", "shape", "size", "count", "relation", "binding"]
    assert list(found["by_category"]) == names and list(found["by_language"]) == ["zh", "en"]
    assert all(value == 1.0 for value in skills(found["all"]).values())
    assert found["all"]["n"] == 7 * 4 * 2 and found["all"]["score_ci95"] == list(interval(1.0, 56))
    assert (
        found["by_category"]["count"]["n"] == 8
        and found["by_category"]["count"]["by_language"]["zh"]["n"] == 4
    )
    assert (
        found["all"]["skills"]["relation"]["n"] == 5 * 4 * 2
        and found["all"]["skills"]["binding"]["n"] == 3 * 4 * 2
    )
    assert found["all"]["zh_minus_en"] == {"score": 0.0, "pairs": 28, "score_ci95": None}
    for name in PANELS["score of prompts"]:
        assert find(found, name) == 1.0 and limits(found, name)[0] < 1.0


def test_a_painter_that_swaps_colours_in_one_language_fails_binding_there():
    found = Prompts(n=4, categories=("binding", "relation", "colour", "single_object"))(
        Painter(swap_colours, ("en",))
    )
    assert skills(found["by_language"]["zh"])["binding"] == 1
    english = skills(found["by_language"]["en"])
    assert english.pop("everything") == 0.25, "one object alone"
    assert english.pop("relation") == 2 / 3, "two that differ in colour alone have changed places"
    assert english == dict(colour=1, shape=1, count=1, size=1, binding=0, readable=1)
    assert (
        found["by_category"]["binding"]["score"] == 0.5
        and found["by_category"]["binding"]["by_language"]["en"]["score"] == 0
    )
    assert found["by_category"]["binding"]["zh_minus_en"] == {
        "score": 1.0,
        "pairs": 4,
        "score_ci95": None,
    }
    assert found["by_category"]["colour"]["score"] == 1


def test_what_cannot_be_told_is_no_number():
    found = Prompts(n=2, categories=("binding",))(
        Painter(lambda s: replace(s, objects=s.objects[:1]))
    )
    assert (
        found["all"]["score"] is None
        and found["all"]["n"] == 0
        and found["all"]["skills"]["count"]["score"] == 0
    )
    assert "zh_minus_en" not in found["all"]


def test_scenes_are_those_that_the_data_has():
    found = Prompts(n=2)(Painter(max_objects=1))
    assert list(found["by_category"]) == ["single_object"]
    with pytest.raises(
        UserError,
        match=(
            "evals.prompts.categories='count': the run's data has no such scenes, only"
            " single_object"
        ),
    ):
        Prompts(n=2, categories=("count",))(Painter(max_objects=1))
    assert list(Prompts(n=2, languages=("en",))(Painter())["by_language"]) == ["en"]


class Ranked(Painter):
    """Grey pictures as bright as the prompt is long; a ranker that sees brightness and length."""

    def sample(self, prompts, controls, seed, languages):
        return [
            types.SimpleNamespace(image=np.full((32, 32, 3), len(p), np.uint8)) for p in prompts
        ]

    def ranking(self, workdir, languages=()):
        assert workdir == "there" and set(languages) <= {"zh", "en"}
        return self

    def embed_images(self, images):
        angles = images[:, 0, 0, 0] / 100
        return np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)

    def embed_texts(self, texts, languages):
        angles = np.array(
            [
                len(t) / 100 + (0.5 if g == "zh" else 0.2)
                for t, g in zip(texts, languages, strict=True)
            ]
        )
        return np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)


@pytest.fixture
def suite(tmp_path, monkeypatch):
    (tmp_path / "vilg_300").mkdir()
    rows = [f"prompt number {i},提示{i},{('颜色', '计数')[i % 2]},DrawBench" for i in range(10)]
    (tmp_path / "vilg_300" / "ViLG-300.csv").write_text(
        "\ufeff" + "\r\n".join(["Prompt,文本,类别,来源", *rows, ",只有中文,计数,DrawBench"])
    )
    monkeypatch.setenv("VILG_DATA", str(tmp_path))


def test_a_ranker_scores_the_prompts_of_a_suite_by_category_and_language(suite):
    evaluator = Prompts(suite="vilg_300", n=3, ranker="there")
    found = evaluator(Ranked())
    assert {c: (f["category_en"], f["n"]) for c, f in found["by_category"].items()} == {
        "颜色": ("Colors", 6),
        "计数": ("Counting", 6),
    }
    assert (
        found["by_language"]["zh"]["score"] == pytest.approx(np.cos(0.5))
        and found["by_language"]["zh"]["n"] == 6
    )
    assert found["by_language"]["en"]["score"] == pytest.approx(np.cos(0.2))
    assert found["all"]["score"] == pytest.approx((np.cos(0.5) + np.cos(0.2)) / 2)
    low, high = found["all"]["score_ci95"]
    assert (low, high) == pytest.approx(t_interval([np.cos(0.5), np.cos(0.2)] * 6)) and low < found[
        "all"
    ]["score"] < high
    assert (
        found["all"]["zh_minus_en"]["score"] == pytest.approx(np.cos(0.5) - np.cos(0.2))
        and found["all"]["zh_minus_en"]["pairs"] == 6
    )
    numbers, scored = evaluator.measured(Ranked())
    assert numbers == found and {s.cell for s in scored} == {"vilg_300, 颜色", "vilg_300, 计数"}
    assert np.mean([s.score for s in scored]) == pytest.approx(found["all"]["score"]) and all(
        s.image is not None for s in scored
    )
    told = evaluator.protocol()
    assert (
        told["prompts"] == {"zh": 6, "en": 6}
        and told["published"] == 300
        and len(told["files_sha256"]) == 16
    )
    whole = replace(evaluator, n=0, categories=("Counting",))(Ranked())
    assert whole["all"]["n"] == 11 and whole["all"]["zh_minus_en"]["pairs"] == 5, (
        "one prompt has no English"
    )


def test_the_protocol_names_the_translation(tmp_path, monkeypatch):
    (tmp_path / "coco_30k").mkdir()
    file = tmp_path / "coco_30k" / "coco_30k.csv"
    monkeypatch.setenv("VILG_DATA", str(tmp_path))
    file.write_text("image_id,caption,zh\n1,A fox.,狐狸。\n")
    with pytest.raises(UserError, match="does not say who translated"):
        Prompts(suite="coco_30k", ranker="there").protocol()
    assert (
        Prompts(suite="coco_30k", ranker="there", translation="Somebody").protocol()["translation"]
        == "Somebody"
    )
    assert (
        Prompts(suite="coco_30k", ranker="there", languages=("en",)).protocol()["translation"] == ""
    )
    file.write_text("image_id,caption,zh,translation\n1,A fox.,狐狸。,her\n2,A bee.,蜜蜂。,him\n")
    assert Prompts(suite="coco_30k", ranker="there").protocol()["translation"] == "her, him"


def test_the_difference_of_languages_is_that_of_pairs():
    rng = np.random.default_rng(0)
    hard = rng.normal(size=20)
    rows = [
        Judged(str(i), "c", "", g, float(hard[i] + d + rng.normal() / 100))
        for i in range(20)
        for g, d in (("zh", 0.0), ("en", 0.1))
    ]
    found = summarize([*rows, Judged("alone", "c", "", "zh", 50.0)])["all"]["zh_minus_en"]
    pairs = [rows[2 * i].score - rows[2 * i + 1].score for i in range(20)]
    assert found == {
        "score": pytest.approx(np.mean(pairs)),
        "pairs": 20,
        "score_ci95": pytest.approx(t_interval(pairs)),
    }
    assert -0.11 < found["score_ci95"][0] < found["score_ci95"][1] < -0.09


def test_prompts_are_spread_over_the_suite():
    assert evenly(list(range(10)), 4) == [0, 2, 5, 7] and evenly([1, 2], 4) == evenly(
        [1, 2], 0
    ) == [1, 2]


def test_it_refuses_what_it_cannot_measure_when_the_experiment_is_built():
    for fields, words in (
        (
            dict(suite="vilg_300"),
            "evals.prompts.suite='vilg_300': would not be scored: give evals.prompts.ranker",
        ),
        (dict(suite="vilg_300", ranker="x", split="test"), "evals.prompts.split='test'"),
        (dict(suite="vilg_300", ranker="x", translation="me"), "evals.prompts.translation='me'"),
        (dict(ranker="x"), "evals.prompts.ranker='x': the suite synthetic is scored exactly"),
        (dict(n=0), "evals.prompts.n=0"),
        (dict(categories=("color",)), "evals.prompts.categories='color'"),
        (dict(languages=("fr",)), "evals.prompts.languages='fr'"),
        (dict(steps=3), "steps=3: an autoregressive generator has no such option"),
    ):
        with pytest.raises(UserError, match=words):
            build_experiment(tiny_config(evals={"prompts": fields}))


def test_a_section_may_name_its_evaluator():
    sections = {
        "parti": dict(name="prompts", suite="parti_prompts", ranker="x"),
        "skills": dict(name="prompts"),
        "losses": {},
    }
    evals = build_experiment(tiny_config(evals=sections)).evals
    assert {n: type(e).__name__ for n, e in evals.items()} == {
        "parti": "Prompts",
        "skills": "Prompts",
        "losses": "Losses",
    }
    assert evals["parti"].suite == "parti_prompts" and evals["skills"].suite == "synthetic"


def test_other_data_and_other_runs_are_refused():
    painter = Painter()
    painter.experiment = types.SimpleNamespace(
        data=types.SimpleNamespace(train=[]), model=painter.experiment.model
    )
    with pytest.raises(UserError, match="the run reads list data"):
        Prompts()(painter)


def test_groups_of_two_evaluators_stand_side_by_side_in_the_metrics():
    results = {
        "scenes": {"by_language": {"zh": {"one": 1.0}}},
        "prompts": {"by_language": {"zh": {"score": 0.5}}},
    }
    assert flat_results(results) == {"by_language/zh/one": 1.0, "by_language/zh/score": 0.5}
