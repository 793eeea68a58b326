"""The Python front door, on the stored runs (tests/stored_runs/README.md): every method of a run,
its relation to the command line, and wrong arguments.
"""

import io
import json
import resource
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vilg
from vilg.data.sources import parse_source
from vilg.run import cli
from vilg.types import UserError

STORED = Path(__file__).parent / "stored_runs"
PROMPT = "a large red circle"


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """The finished stored runs, each in KIND/finished."""
    folder = tmp_path_factory.mktemp("stored")
    for archive in STORED.glob("*/finished.tar.xz"):
        with tarfile.open(archive) as tar:
            tar.extractall(folder / archive.parent.name / "finished", filter="data")
    return folder


@pytest.fixture(scope="module")
def transformer(runs) -> vilg.Run:
    return vilg.load(runs / "transformer" / "finished")


@pytest.fixture(scope="module")
def codec(runs) -> vilg.Run:
    return vilg.load(runs / "codec" / "finished")


@pytest.fixture(scope="module")
def ranker(runs) -> vilg.Run:
    return vilg.load(runs / "ranker" / "finished")


@pytest.fixture(scope="module")
def scenes() -> np.ndarray:
    """Three pictures, uint8 [3, 32, 32, 3]."""
    source = parse_source("synthetic:valid,n=3,image_size=32")
    return np.stack([source[i]["image"] for i in range(3)])


def test_importing_vilg_takes_at_most_a_third_of_a_cpu_second():
    """User and system time of `import vilg` in a process of its own: .02 s, nearly all of it
    Python's own; 1.7 s where the package imports what it offers (vilg.api and with it JAX)."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.check_call([sys.executable, "-c", "import vilg"])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime <= 0.3


def test_what_the_front_door_offers_is_there():
    assert {"load", "Run", "Picture", "UserError"} <= set(dir(vilg))
    assert vilg.UserError is UserError
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        vilg.lod  # noqa: B018


def test_pictures_are_those_of_the_command_line(transformer, tmp_path):
    options = [f"--prompt={PROMPT}", "--num=2", "--seed=5", "--guidance=3", "--temperature=0.7"]
    workdir = f"--workdir={transformer.path}"
    assert cli.main(["sample", workdir, f"--out={tmp_path}", "--quiet", *options]) == 0
    pictures = transformer.sample(PROMPT, num=2, seed=5, guidance=3.0, temperature=0.7)
    for k, picture in enumerate(pictures):
        written = np.asarray(Image.open(tmp_path / f"{k:05d}.png"))
        np.testing.assert_array_equal(picture.array, written)
        assert (picture.prompt, picture.language, picture.seed) == (PROMPT, "en", 5 + k)
        assert not picture.truncated and picture.score is None
    assert not np.array_equal(pictures[0].array, pictures[1].array)
    alone = transformer.sample([PROMPT], seed=6, guidance=3.0, temperature=0.7)
    np.testing.assert_array_equal(alone[0].array, pictures[1].array)


def test_a_picture_shows_and_saves_itself(transformer, tmp_path):
    picture = transformer.sample(PROMPT)[0]
    shown = Image.open(io.BytesIO(picture._repr_png_()))
    assert shown.format == "PNG" and shown.size == (256, 256)
    np.testing.assert_array_equal(np.asarray(shown)[4::8, 4::8], picture.array)
    picture.save(tmp_path / "picture.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "picture.png")), picture.array)
    np.testing.assert_array_equal(np.asarray(picture.image), picture.array)


def test_the_best_of_several_pictures(transformer, ranker):
    best = transformer.sample(PROMPT, best_of=3, ranker=str(ranker.path))[0]
    every = transformer.sample(PROMPT, num=3)
    scores = ranker.score([p.array for p in every], [PROMPT] * 3)
    assert best.seed == int(np.argmax(scores)) and best.score == pytest.approx(max(scores))
    np.testing.assert_allclose([score for _, score in best.candidates], scores, rtol=1e-6)


def test_captions_are_those_of_the_command_line(transformer, scenes, tmp_path):
    for k, scene in enumerate(scenes):
        Image.fromarray(scene).save(tmp_path / f"{k}.png")
    arguments = [f"--workdir={transformer.path}", f"--images={tmp_path}", "--language=zh"]
    assert cli.main(["caption", *arguments, f"--out={tmp_path / 'c.jsonl'}"]) == 0
    lines = [json.loads(line) for line in (tmp_path / "c.jsonl").read_text().splitlines()]
    captions = transformer.caption(scenes, "zh")
    assert [c.text for c in captions] == [line["captions"][0]["text"] for line in lines]
    assert [c.score for c in captions] == pytest.approx([line["scores"][0] for line in lines])
    assert {c.language for c in captions} == {"zh"}
    by_file = transformer.caption([tmp_path / f"{k}.png" for k in range(3)], ["zh"] * 3)
    assert by_file == captions


def test_codes_are_the_same_of_every_form_of_a_picture(codec, scenes, tmp_path):
    Image.fromarray(scenes[0]).save(tmp_path / "scene.png")
    large = Image.fromarray(scenes[0]).resize((96, 64))
    codes = codec.encode(scenes)
    assert codes.shape == (3, 8, 8) and codes.dtype == np.int32
    np.testing.assert_array_equal(codes, codec.session.codes(scenes))
    assert len(np.unique(codes)) > 1
    for form in (scenes[0], Image.fromarray(scenes[0]), str(tmp_path / "scene.png")):
        np.testing.assert_array_equal(codec.encode(form), codes[:1])
    mixed = codec.encode([large, Image.fromarray(scenes[1]), tmp_path / "scene.png"])
    np.testing.assert_array_equal(mixed[1:], codes[[1, 0]])


def test_codes_are_decoded_to_the_reconstruction(codec, transformer):
    codes = np.random.default_rng(0).integers(0, 32, (3, 8, 8))
    pictures = codec.decode(codes)
    assert [picture.size for picture in pictures] == [(32, 32)] * 3
    arrays = np.stack([np.asarray(picture) for picture in pictures])
    np.testing.assert_array_equal(arrays, codec.session.pictures(codes.astype(np.int32)))
    assert not np.array_equal(arrays[0], arrays[2])
    again = transformer.decode(codes)  # the same codec, in its generator's run
    np.testing.assert_array_equal(arrays, np.stack([np.asarray(picture) for picture in again]))
    assert codec.decode(codes[:, :4])[0].size == (32, 16)


def test_scores_say_how_well_a_text_goes_with_a_picture(transformer, ranker, scenes):
    nats = transformer.score(scenes, [PROMPT, "一个蓝色的三角形", PROMPT])
    assert nats.shape == (3,) and np.all(nats < 0)
    np.testing.assert_allclose(transformer.score(scenes[0], PROMPT), nats[:1], rtol=1e-5)
    cosines = ranker.score(scenes, [PROMPT] * 3, language="en")
    assert cosines.shape == (3,) and np.all(np.abs(cosines) <= 1 + 1e-6)


def test_evaluators_run_by_name_with_their_protocol(codec):
    result = codec.evaluate()
    assert set(result["metrics"]) == {"reconstruction"}
    assert codec.evaluate("reconstruction")["metrics"] == result["metrics"]
    assert result["protocol"]["step"] == codec.step == 6
    assert result["protocol"]["parameters"] == "raw"
    assert result["protocol"]["workdir"] == str(codec.path)


def test_the_config_and_the_log_need_no_checkpoint(runs):
    run = vilg.load(runs / "experts" / "finished")
    assert run.config["generator"]["experts"]["n"] == 2
    assert repr(run) == f"<vilg run {str(run.path)!r}: diffusion>"
    log = run.metrics
    np.testing.assert_array_equal(log["step"], [1, 2, 3, 4, 5, 6])
    assert np.all(log["loss"] > 0) and "<table>" in log._repr_html_()
    assert "session" not in vars(run)


def test_the_average_is_sampled_unless_the_raw_parameters_are_asked_for(runs, transformer):
    raw = vilg.load(runs / "transformer" / "finished", ema=False)
    scene = np.zeros((32, 32, 3), np.uint8)
    assert raw.score(scene, PROMPT)[0] != transformer.score(scene, PROMPT)[0]


GREY = np.zeros((8, 8), np.uint8)


@pytest.mark.parametrize(
    ("kind", "call", "words"),
    [
        ("transformer", lambda run: run.sample([]), "prompt is empty"),
        ("transformer", lambda run: run.sample("x", num=0), "num=0: give at least 1"),
        ("transformer", lambda run: run.sample("x", seed=-1), "seed=-1: must be from 0"),
        ("transformer", lambda run: run.sample("x", steps=3), "steps=3: .* no such option"),
        ("transformer", lambda run: run.sample("x", guidance=-1.0), "guidance=-1.0: must be 0"),
        ("transformer", lambda run: run.sample("x", height=64), "height=64: .* step by step"),
        ("transformer", lambda run: run.sample("x", style="oi"), "style='oi'"),
        ("transformer", lambda run: run.sample("x", language="fr"), "language='fr': known"),
        (
            "transformer",
            lambda run: run.sample("x", language=["en", "zh"]),
            "language=.*: is 2 languages for 1; give one for all, or as many",
        ),
        ("transformer", lambda run: run.sample("x", best_of=2), "best_of=2: needs --ranker"),
        ("transformer", lambda run: run.caption(GREY, "fr"), "has shape .8, 8. and type uint8"),
        (
            "transformer",
            lambda run: run.caption(np.zeros((8, 8, 3), np.uint8), "fr"),
            "language='fr': known languages are",
        ),
        ("transformer", lambda run: run.caption("no.png"), "images='no.png': cannot be read"),
        ("transformer", lambda run: run.caption("README.md"), "images='README.md': .* decoded"),
        ("transformer", lambda run: run.caption([]), "images: is empty"),
        ("transformer", lambda run: run.caption(Image.new("F", (8, 8))), "floating-point"),
        ("transformer", lambda run: run.evaluate("scene"), "evals='scene': .* losses, scenes"),
        (
            "transformer",
            lambda run: run.score(np.zeros((2, 8, 8, 3), np.uint8), "x"),
            "texts: 1 texts for 2 pictures; give one text a picture",
        ),
        ("codec", lambda run: run.sample("x"), "trained a codec, which draws no pictures"),
        ("codec", lambda run: run.caption(GREY), "trained a codec, which cannot caption"),
        (
            "codec",
            lambda run: run.score(np.zeros((8, 8, 3), np.uint8), "x"),
            "trained a codec, which cannot say how well a text goes with a picture",
        ),
        ("codec", lambda run: run.decode(np.zeros((8, 8), int)), r"codes: .* int32 \[n, 8, 8\]"),
        ("codec", lambda run: run.decode(np.zeros((1, 8, 8))), "codes: .* type float64"),
        ("codec", lambda run: run.decode(np.full((1, 8, 8), 32)), "codes=32: .* from 0 to 31"),
        ("ranker", lambda run: run.sample("x"), "trained a ranker, which draws no pictures"),
    ],
)
def test_wrong_arguments_are_one_sentence(kind, call, words, request):
    with pytest.raises(vilg.UserError, match=words) as told:
        call(request.getfixturevalue(kind))
    assert "\n" not in str(told.value)


def test_what_is_no_run_is_said_by_load(tmp_path):
    with pytest.raises(vilg.UserError, match="holds no config.json, so it is no run"):
        vilg.load(tmp_path)
    with pytest.raises(vilg.UserError, match="nowhere"):
        vilg.load(tmp_path / "nowhere")
