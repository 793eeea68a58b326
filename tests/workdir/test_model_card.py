"""MODEL_CARD.md: its facts are the run's, its table has intervals, and no failure of it fails a
run."""

import dataclasses

import yaml

from tests.conftest import tiny_config
from vilg.evals.numbers import with_intervals
from vilg.experiment import build_experiment
from vilg.workdir import training_run
from vilg.workdir.files import Record, Workdir
from vilg.workdir.model_card import Card, write_model_card
from vilg.workdir.training import train

SCENES = {
    "two": 0.5,
    "by_language": {"en": {"two": 0.25, "n": {"two": 4}, "ci95": {"two": [0.1, 0.4]}}},
    "parts": {"two": {"colour": 0.75}},
    "held_out": {"two": 0.125},
    "zh_minus_en": {"score": 0.5, "pairs": 3, "score_ci95": [0.4, 0.6]},
    "changed": {"colour": {"accuracy": 0.9, "ci95": [0.8, 1.0], "n": 7.0}},
    "n": {"two": 8, "held_out": {"two": 8}},
    "ci95": {"two": [0.3, 0.7], "held_out": {"two": [0.0, 0.25]}},
}


def test_every_number_stands_beside_its_interval():
    assert list(with_intervals(SCENES)) == [
        ("two", 0.5, [0.3, 0.7]),
        ("by_language/en/two", 0.25, [0.1, 0.4]),
        ("held_out/two", 0.125, [0.0, 0.25]),
        ("zh_minus_en/score", 0.5, [0.4, 0.6]),
        ("zh_minus_en/pairs", 3.0, None),
        ("changed/colour/accuracy", 0.9, [0.8, 1.0]),
    ]


def test_a_finished_run_has_a_card_with_its_facts(codec_run):
    directory, record = Workdir(codec_run), Workdir(codec_run).read()
    text = directory.model_card.read_text()
    _, header, body = text.split("---\n", 2)
    assert yaml.safe_load(header) == {
        "license": "unknown",
        "library_name": "vilg",
        "tags": ["vilg", "jax", record.config["codec"]["name"]],
    }
    title = body.strip().splitlines()[0]
    overview = directory.parameters.read_text()
    total = next(line for line in overview.splitlines() if line.startswith("Total:"))
    assert title.split(" of ")[1].split()[0] in total
    assert f"config hash `{record.hash}`" in body
    assert f"`{record.commits[-1]}`" in body and f"jax={record.versions['jax']}" in body
    assert "CC0-1.0 (" in body, "the licence that synthetic records state"
    assert "\n## Use\n" in body and 'run.encode("picture.png")' in body
    assert "vilg sample" not in body and "No filter" not in body, "a codec draws nothing"


def card(results, **changes) -> str:
    experiment = build_experiment(tiny_config(**changes))
    machine = {"device": "cpu", "devices": 2, "processes": 1, "versions": {"jax": "1"}}
    facts = dict(codec_hash="abc", codec={"psnr": 20.0}, commits=["1234"], environments=[machine])
    return Card(experiment, Record(experiment.config, experiment.hash, **facts), 7, results).text()


def test_the_card_of_a_generator_says_how_to_draw_and_what_was_measured():
    evals = {"losses": {"batches": 1, "batch_size": 8}}
    text = card({"losses": {"loss": 1.5, "loss_ci95": [1.25, 1.75]}}, evals=evals)
    assert "| losses | loss | 1.5 | 1.25 to 1.75 |" in text
    assert "- losses: split=valid, records=8" in text
    assert "vilg sample --workdir=DIR" in text and "vilg caption --workdir=DIR" in text
    assert "codes of the codec `abc` (psnr 20.000)" in text
    assert "- on 2 x cpu, 1 process, layout dp; jax=1" in text and "No filter" in text
    assert "was not evaluated" in card({})


def test_records_without_a_licence_are_said(tmp_path, codec_run):
    experiment = build_experiment(tiny_config())

    class Silent:
        def __len__(self):
            return 3

        def __getitem__(self, i):
            return {"license": "MIT"} if i == 0 and self.some else {}

    for some, words in ((True, "MIT (1); 2 state none."), (False, "state no licence: whoever")):
        source = Silent()
        source.some = some
        data = dataclasses.replace(experiment.data, train=source)
        silent = dataclasses.replace(experiment, data=data)
        assert words in Card(silent, Record(experiment.config), 7, {}).data()


def test_a_card_that_cannot_be_written_fails_no_run(tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(training_run, "write_model_card", full)
    config = tiny_config(training__steps=1).codec.experiment
    config.training.steps = 1
    train(config, tmp_path / "run", quiet=True)
    assert (tmp_path / "run" / "checkpoints" / "1").is_dir()
    assert "MODEL_CARD.md was not written (No space left" in capsys.readouterr().err


def test_a_card_takes_the_place_of_an_earlier_one(tmp_path):
    directory = Workdir(tmp_path)
    experiment = build_experiment(tiny_config())
    for parameters in (7, 8):
        write_model_card(directory, Card(experiment, Record(experiment.config), parameters, {}))
    assert "of 8 parameters" in directory.model_card.read_text()
    assert [p.name for p in tmp_path.iterdir()] == ["MODEL_CARD.md"]
