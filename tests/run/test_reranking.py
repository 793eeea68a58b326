"""Choosing by a ranker: the largest cosine is kept, bad requests are one sentence; and a real
ranker's run through the commands.
"""

import json
import types

import numpy as np
import pytest
from PIL import Image

from tests.conftest import tiny_config, tiny_diffusion
from vilg.data.scenes.source import Synthetic
from vilg.experiment import build_experiment
from vilg.run import cli
from vilg.types import UserError
from vilg.workdir.files import with_places
from vilg.workdir.reranking import best_of, check_languages, check_request, rank_records
from vilg.workdir.session import Sampled, open_ranker, open_session

VECTORS = {"red": (1.0, 0.0), "blue": (0.0, 1.0)}


class Brightness:
    """A ranker that finds bright pictures red and dark ones blue, and says what it was asked."""

    experiment = types.SimpleNamespace(
        data=types.SimpleNamespace(
            text=types.SimpleNamespace(length=9),
            loader=types.SimpleNamespace(languages=("zh", "en")),
            train=types.SimpleNamespace(languages=("en",)),
        )
    )

    def __init__(self):
        self.read = []

    def embed_images(self, images):
        angle = np.array([np.mean(i) / 255 * np.pi / 2 for i in images])
        return np.stack([np.sin(angle), np.cos(angle)], 1)

    def embed_texts(self, texts, languages):
        self.read += list(zip(texts, languages, strict=True))
        return np.array([VECTORS[t] for t in texts])

    def text_ids(self, text, language):
        return np.zeros(9), text == "blue"


def drawn(prompt, levels, first=3):
    return [
        Sampled(prompt, "en", first + k, False, np.full((4, 4, 3), v, np.uint8))
        for k, v in enumerate(levels)
    ]


def test_the_best_of_each_prompts_candidates_is_kept(capsys):
    ranker = Brightness()
    kept = best_of([*drawn("red", [10, 200, 90]), *drawn("blue", [10, 200, 90])], 3, ranker)
    assert [(k.prompt, k.seed, int(k.image[0, 0, 0])) for k in kept] == [
        ("red", 4, 200),
        ("blue", 3, 10),
    ]
    for one, levels in zip(kept, ([10, 200, 90], [10, 200, 90]), strict=True):
        turn = np.sin if one.prompt == "red" else np.cos
        np.testing.assert_allclose(
            [s for _, s in one.candidates], turn(np.array(levels) / 255 * np.pi / 2), rtol=1e-6
        )
        assert [seed for seed, _ in one.candidates] == [3, 4, 5] and one.score == max(
            s for _, s in one.candidates
        )
    assert ranker.read == [("red", "en"), ("blue", "en")], "a text is read once"
    assert (
        "the ranker read 1 texts up to its data.text.length=9 only, the first: 'blue'"
        in capsys.readouterr().err
    )


def test_of_equals_the_first_is_kept():
    assert best_of(drawn("red", [50, 50]), 2, Brightness())[0].seed == 3


@pytest.mark.parametrize(
    ("best", "ranker", "words"),
    [
        (4, "", "best_of=4: needs --ranker"),
        (None, "R", "ranker='R': needs --best_of=N"),
        (1, "R", "best_of=1: must be at least 2"),
    ],
)
def test_one_option_without_the_other_is_refused(best, ranker, words):
    check_request(None, "")
    check_request(2, "R")
    with pytest.raises(UserError, match=words):
        check_request(best, ranker)


def test_a_language_that_it_has_not_read_is_refused():
    check_languages(Brightness(), "R", {"en"})
    with pytest.raises(
        UserError, match="ranker='R': was trained on captions in en, and there is text in zh"
    ):
        check_languages(Brightness(), "R", {"en", "zh"})


def test_scores_of_a_data_set_are_a_line_a_record(tmp_path, monkeypatch):
    monkeypatch.setattr("vilg.workdir.reranking.AT_ONCE", 2)
    levels = [0, 255, 102]
    records = [
        {
            "id": str(k),
            "image": np.full((4, 4, 3), v, np.uint8),
            "captions": [{"text": t, "language": "en"} for t in VECTORS],
        }
        for k, v in enumerate(levels)
    ]
    told = rank_records([*records, {"id": "bad"}], Brightness(), "R", tmp_path / "s.jsonl")
    assert (told["records"], told["captions"], list(told["bad"])) == (3, 6, ["bad"])
    lines = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == ["0", "1", "2"]
    for line, level in zip(lines, levels, strict=True):
        assert [s["text"] for s in line["scores"]] == ["red", "blue"]
        np.testing.assert_allclose(
            [s["score"] for s in line["scores"]],
            [f(level / 255 * np.pi / 2) for f in (np.sin, np.cos)],
            atol=1e-6,
        )
    with pytest.raises(UserError, match="exists already"):
        rank_records(records, Brightness(), "R", tmp_path / "s.jsonl")


def test_scenes_reranks_and_says_so():
    changed = dict(best_of=2, ranker="runs/ranker")
    scenes = build_experiment(
        tiny_diffusion(evals__scenes=dict(n=2, captions=False, **changed))
    ).evals["scenes"]
    said = scenes.protocol()
    assert (
        said["samples_per_prompt"] == 2
        and said["reranking"] == "the best of 2 by the cosine of runs/ranker"
    )
    asked = []

    class Subject:
        experiment = build_experiment(tiny_diffusion())
        program = params = frozen = text_model = None
        codes = pictures = caption = batched = apply = apply_to_texts = (
            len  # asked for by nobody here
        )

        def sample(self, prompts, controls, seed, languages, number=1):
            asked.append(number)
            rows = [
                (p, g, k) for p, g in zip(prompts, languages, strict=True) for k in range(number)
            ]
            return [Sampled(p, g, k, False, np.zeros((32, 32, 3), np.uint8)) for p, g, k in rows]

        def best(self, samples, number, ranker):
            asked.append((len(samples), number, ranker))
            return samples[::number]

    assert len(scenes.trials(Subject())) == 8
    assert asked == [2, (4, 2, "runs/ranker")] * 4
    for wrong in (dict(best_of=2), dict(ranker="runs/ranker"), dict(best_of=0)):
        with pytest.raises(UserError, match="evals.scenes.best_of"):
            build_experiment(tiny_diffusion(evals__scenes=dict(n=2, captions=False, **wrong)))


def test_the_rankers_place_is_stored_relative_to_the_run():
    config = tiny_config(evals={"scenes": {"n": 2, "ranker": "r"}, "losses": {}}).to_dict()
    assert with_places(config, lambda place: f"up/{place}")["evals"] == {
        "scenes": {"n": 2, "ranker": "up/r"},
        "losses": {},
    }
    assert config["evals"]["scenes"]["ranker"] == "r"


# --- a real one -----------------------------------------------------------------------------------


def test_samples_hold_the_score_of_the_kept_one_of_all_candidates(
    diffusion_run, ranker_run, tmp_path
):
    options = [
        f"--workdir={diffusion_run}",
        "--prompt=a red ring",
        "--prompt=一个红色圆环",
        "--seed=5",
        "--steps=2",
        "--quiet",
    ]
    assert cli.main(["sample", *options, "--num=6", f"--out={tmp_path / 'all'}"]) == 0
    assert (
        cli.main(
            [
                "sample",
                *options,
                "--num=2",
                "--best_of=3",
                f"--ranker={ranker_run}",
                f"--out={tmp_path / 'best'}",
            ]
        )
        == 0
    )
    every, best = (
        [json.loads(line) for line in (tmp_path / d / "samples.jsonl").read_text().splitlines()]
        for d in ("all", "best")
    )
    ranker = open_session(str(ranker_run))
    images = np.stack([np.asarray(Image.open(tmp_path / "all" / line["file"])) for line in every])
    cosines = np.sum(
        ranker.embed_images(images)
        * ranker.embed_texts([s["prompt"] for s in every], [s["language"] for s in every]),
        1,
    )
    assert len(best) == 4 and all(
        line["score"] is None and "candidates" not in line for line in every
    )
    for k, line in enumerate(best):
        mine = slice(3 * k, 3 * k + 3)
        assert [c["seed"] for c in line["candidates"]] == [s["seed"] for s in every[mine]]
        np.testing.assert_allclose(
            [c["score"] for c in line["candidates"]], cosines[mine], atol=1e-5
        )
        chosen = 3 * k + int(np.argmax(cosines[mine]))
        assert line["seed"] == every[chosen]["seed"] and line["score"] == max(
            c["score"] for c in line["candidates"]
        )
        np.testing.assert_array_equal(
            np.asarray(Image.open(tmp_path / "best" / line["file"])), images[chosen]
        )
        assert line["best_of"] == 3 and line["ranker"] == str(ranker_run)


def test_features_have_unit_length_and_agree_with_agreement(ranker_run):
    ranker = open_ranker(str(ranker_run), {"zh", "en"})
    records = [Synthetic(n=3, max_objects=1)[i] for i in range(3)]
    images, texts = (
        np.stack([r["image"] for r in records]),
        [r["captions"][0]["text"] for r in records],
    )
    ours, theirs = ranker.embed_images(images), ranker.embed_texts(texts, ["zh"] * 3)
    assert ours.shape == (3, 16) and ours.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, rtol=1e-5)
    codes = ranker.codes(images)
    agreement = ranker.apply_to_texts("agreement", texts, ["zh"] * 3, codes)
    ratio = agreement / np.sum(ours * theirs, 1)
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-3)
    large = [np.repeat(np.repeat(images[0], 2, 0), 2, 1), images[1]]
    again = ranker.embed_images(large)
    np.testing.assert_allclose(again[1], ours[1], atol=1e-5)
    assert float(again[0] @ ours[0]) > 0.9


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (
            ["sample", "--workdir=D", "--prompt=x", "--out=O", "--best_of=2"],
            "best_of=2: needs --ranker=WORKDIR",
        ),
        (
            ["sample", "--workdir=D", "--prompt=x", "--out=O", "--ranker=R"],
            "ranker='R': needs --best_of=N",
        ),
        (
            ["sample", "--workdir=D", "--prompt=x", "--out=O", "--best_of=1", "--ranker=R"],
            "best_of=1: must be at least 2",
        ),
        (
            ["sample", "--workdir=D", "--prompt=x", "--out=O", "--best_of=2", "--ranker=D"],
            "a generator, which has no features",
        ),
        (
            ["sample", "--workdir=D", "--prompt=x", "--out=O", "--best_of=2", "--ranker=no"],
            "ranker='no': holds no config.json",
        ),
        (
            [
                "sample",
                "--workdir=D",
                "--prompt=x",
                "--out=O",
                "--best_of=2",
                "--ranker=R",
                "--seed=4294967295",
            ],
            "2**32 - num x best_of",
        ),
        (
            ["sample", "--workdir=R", "--prompt=x", "--out=O"],
            "trained a ranker, which draws no pictures",
        ),
        (
            ["caption", "--workdir=R", "--images=experiments/results/small_samples.png", "--out=O"],
            "trained a ranker, which cannot caption",
        ),
        (
            ["evaluate", "--workdir=R", "--out=O", "--best_of=2", "--ranker=R"],
            "none of losses reranks",
        ),
        (
            ["data", "rank", "--source=synthetic:n=2", "--ranker=D", "--out=O"],
            "a generator, which has no features",
        ),
    ],
)
def test_mistakes_are_one_sentence(argv, words, diffusion_run, ranker_run, tmp_path, capsys):
    places = {"=D": f"={diffusion_run}", "=R": f"={ranker_run}", "=O": f"={tmp_path / 'o'}"}
    real = [a.replace(a[-2:], places[a[-2:]]) if a[-2:] in places else a for a in argv]
    assert cli.main(real) == 2
    said = (
        capsys.readouterr().err.strip().removeprefix(f"vilg data rank: opening {diffusion_run}\n")
    )
    assert (
        words.replace("'R'", repr(str(ranker_run))) in said
        and "Traceback" not in said
        and "\n" not in said
    )
