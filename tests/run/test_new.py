"""`vilg new`: an experiment for pictures of one's own, with sizes from what the source holds."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vilg.experiment import build_experiment
from vilg.experiment_file import load_config
from vilg.run import cli
from vilg.run.new import RECIPES, SCALES, caption_ids


def pictures(folder: Path, n: int, side: int, text: str = "a red cake on a table") -> Path:
    """A folder of n pictures with a caption each."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    lines = []
    for i in range(n):
        pixels = rng.integers(0, 256, (side, side + 5, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        captions = [{"text": f"{text} {i}", "language": "en"}]
        lines.append(json.dumps({"image": f"{i}.png", "captions": captions}))
    (folder / "captions.jsonl").write_text("\n".join(lines))
    return folder


@pytest.mark.parametrize("generator", RECIPES)
@pytest.mark.parametrize(("side", "size"), [(30, 32), (63, 32), (90, 64)])
def test_the_experiment_builds_with_sizes_from_the_data(generator, side, size, tmp_path, capsys):
    folder, out = pictures(tmp_path / "my photos", 40, side), tmp_path / "deep" / "mine.py"
    argv = ["new", f"--source=folder:{folder}", f"--out={out}", f"--generator={generator}"]
    assert cli.main(argv) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{out}: 40 pictures of folder:{folder} ({side} pixels at the short")
    assert f"vilg train --config={out} --workdir=runs/mine" in said
    experiment = build_experiment(load_config(str(out)))
    train, valid = experiment.data.train, experiment.data.valid
    assert experiment.image_codec.image_size == size and (len(train), len(valid)) == (36, 4)
    assert experiment.evals["losses"].batch_size == 4, "one batch of the validation pictures"
    ids = {train[i]["id"] for i in range(36)}
    assert not ids & {valid[i]["id"] for i in range(4)}
    config = load_config(str(out))
    assert config.data.train.of == config.codec.experiment.data.train.of == f"folder:{folder}"
    assert config.training.steps == SCALES[0].steps
    assert config.data.text.vocabulary == SCALES[0].vocabulary and config.data.text.length == 16


def test_a_size_of_ones_own(tmp_path):
    folder, out = pictures(tmp_path / "p", 20, 130), tmp_path / "mine.py"
    argv = ["new", f"--source=folder:{folder}", f"--out={out}"]
    assert cli.main([*argv, "--image_size=128"]) == 0
    assert build_experiment(load_config(str(out))).image_codec.image_size == 128


def test_captions_decide_how_long_a_caption_may_be():
    assert caption_ids({"en": {"p95": 52.0}}) == 24
    assert caption_ids({"en": {"p95": 52.0}, "zh": {"p95": 30.0}}) == 32
    assert caption_ids({"zh": {"p95": 500.0}}) == 64


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--source=folder:none"], "there is no captions.jsonl in it"),
        (["--source=foldr:x"], "did you mean 'folder'"),
        (["--source=folder:few"], "source='folder:few': has 19 pictures; 20 are the fewest"),
        (["--source=folder:bad"], "source='folder:bad': 30 of 30 records are bad; the first: "),
        (["--source=folder:p", "--image_size=100"], "image_size=100: must be a multiple of 32"),
        (["--source=folder:p", "--generator=dit"], "generator='dit'"),
        (["--source=folder:p", "--out=there.py"], "out='there.py': is there already"),
        (["--source=folder:p", "--out=mine.txt"], "out='mine.txt': give a new file"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing(argv, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path / "few", 19, 40)
    pictures(tmp_path / "p", 20, 40)
    bad = pictures(tmp_path / "bad", 30, 40)
    for file in bad.glob("*.png"):
        file.write_bytes(b"no picture")
    (tmp_path / "there.py").write_text("mine")
    before = sorted(tmp_path.iterdir())
    assert cli.main(["new", "--out=mine.py", *argv]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before and (tmp_path / "there.py").read_text() == "mine"
