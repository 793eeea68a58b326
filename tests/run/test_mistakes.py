"""The command contract for bad input: one sentence, exit code 2, and nothing left behind."""

import contextlib
import re
import shutil

import pytest

from tests.conftest import tiny_config, tiny_diffusion
from vilg.experiment import build_experiment
from vilg.run import cli
from vilg.types import UserError
from vilg.workdir.files import Workdir
from vilg.workdir.training import train

TINY = "--config=experiments/ernie_vilg.py:tiny"
TWO = "--config=experiments/ernie_vilg2.py:tiny"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["trian"], "not a verb; did you mean train?"),
        (["train", TINY, "--workdir="], "workdir='': is empty"),
        (
            ["train", TINY, "--config.trainin.steps=4", "--workdir=W"],
            "there is no section trainin; did you mean training?",
        ),
        (
            ["train", TINY, "--config.training.steps=1.5", "--workdir=W"],
            "config.training.steps='1.5': must be a whole number",
        ),
        (
            ["train", TINY, "--config.training.steps", "40", "--workdir=W"],
            "--config.training.steps: has no value; write it with =",
        ),
        (["train", "--config=README.md", "--workdir=W"], "is no Python file"),
        (
            ["train", TINY, "--config.training.start_from=nowhere", "--workdir=W"],
            "training.start_from='nowhere': holds no config.json",
        ),
        (
            [
                "caption",
                "--workdir=RUN/codec",
                "--images=experiments/results/small_samples.png",
                "--out=O",
            ],
            "a codec, which cannot caption; give the workdir of a generator that can",
        ),
        (["evaluate", "--workdir=RUN", "--out=/proc/x.json"], "/proc/x.json"),
        (["sample", "--workdir=RUN", "--prompt=x", "--out=" + "o" * 300], "too long"),
        (["train", "--config=nowhere.py", "--workdir=W"], "no such file"),
        (["train", TINY, "--config.training.stepz=5", "--workdir=W"], "stepz"),
        (["train", TINY, "--config.training.steps=many", "--workdir=W"], "many"),
        (
            ["train", TINY, "--config.training.steps=-4", "--workdir=W"],
            "training.steps=-4: must not be negative",
        ),
        (
            ["train", TINY, "--config.training.steps=0", "--workdir=W"],
            "training.steps=0: must be at least 1",
        ),
        (
            ["train", TINY, "--config.optimizer.learning_rate=nan", "--workdir=W"],
            "optimizer.learning_rate=nan",
        ),
        (
            [
                "train",
                TINY,
                "--config.training.batch_size=30",
                "--config.layout.name=dp",
                "--workdir=W",
            ],
            "training.batch_size=30",
        ),
        (
            ["train", TINY, "--config.layout.name=fsdp_tp:model=3", "--workdir=W"],
            "does not fit 8 device",
        ),
        (
            ["train", TINY, "--config.codec.workdir=nowhere", "--workdir=W"],
            "codec.workdir='nowhere': holds no config.json",
        ),
        (["train", TINY, "--config.generator.heads=3", "--workdir=W"], "generator.heads=3"),
        (
            ["train", TINY, "--config.generator.text_windo=3", "--workdir=W"],
            "did you mean text_window",
        ),
        (
            ["train", TINY, "--config.generator.text_window=24", "--workdir=W"],
            "text_window=24: must be from 0 to 23",
        ),
        (
            [
                "train",
                TINY,
                "--config.training.start_from=RUN",
                "--config.codec.workdir=RUN/codec",
                "--workdir=W",
            ],
            "codec.workdir=",
        ),
        (
            ["train", TWO, "--config.training.start_from=RUN", "--workdir=W"],
            "is a run of 'autoregressive', this one is of 'diffusion'",
        ),
        (
            ["train", TWO, "--config.generator.denoiser.query_chunck=3", "--workdir=W"],
            "did you mean query_chunk",
        ),
        (
            [
                "train",
                TWO,
                "--config.generator.denoiser.attention_implementation=flash",
                "--workdir=W",
            ],
            "'flash': did you mean 'splash'",
        ),
        (
            ["train", TINY, "--config.layout.offload=1", "--workdir=W"],
            "layout.offload: unknown field; sizes and options go into layout.name",
        ),
        (["plan", TINY, "--topology=cpu:8", "--json=RUN"], "json='"),
        (
            ["train", TINY, "--config.layout.name=fsdp_tp:model=--2", "--workdir=W"],
            "'model=--2' is not axis=whole number",
        ),
        (
            ["train", TINY, "--config.layout.name=fsdp_tp:model=3", "--workdir=W"],
            "fsdp_tp:data=8:model=1",
        ),
        (
            ["train", TINY, "--config.codec.floors.codebook_usage=nan", "--workdir=W"],
            "codec.floors.codebook_usage=nan",
        ),
        (
            ["train", "--config=experiments/ernie_vilg.py:huge", "--workdir=W"],
            "size='huge': known names are 'tiny', 'small'",
        ),
        (
            ["train", "--config=experiments/quickstart.py:huge", "--workdir=W"],
            "known names are 'default', 'diffusion'",
        ),
        (["train", "--config=tests/conftest.py", "--workdir=W"], "get_config"),
        (["train", "--workdir=W"], "--config is missing"),
        (["sample", "--workdir=nowhere", "--prompt=x", "--out=O"], "holds no config.json"),
        (["sample", "--workdir=RUN", "--prompt=x", "--out=RUN/text.model"], "text.model"),
        (["sample", "--workdir=RUN", "--prompt=x", "--guidance=inf", "--out=O"], "guidance=inf"),
        (["sample", "--workdir=RUN", "--prompt=\udcff", "--out=O"], "is not UTF-8"),
        (
            ["sample", "--workdir=RUN", "--prompt=x", "--seed=4294967296", "--out=O"],
            "seed=4294967296",
        ),
        (["sample", "--workdir=RUN", "--prompt=x", "--column=text", "--out=O"], "column='text'"),
        (["caption", "--workdir=RUN", "--images=RUN", "--out=RUN"], "is a directory"),
        (["sample", "--workdir=RUN", "--prompts=none.txt", "--out=O"], "none.txt"),
        (
            ["sample", "--workdir=RUN", "--prompt=x", "--temperature=-1", "--out=O"],
            "temperature=-1.0",
        ),
        (
            ["sample", "--workdir=RUN/codec", "--prompt=x", "--out=O"],
            "a codec, which draws no pictures; give the workdir of a generator",
        ),
        (
            ["sample", "--workdir=RUN", "--prompt=x", "--steps=3", "--out=O"],
            "steps=3: an autoregressive generator has no such option",
        ),
        (
            [
                "sample",
                "--workdir=RUN",
                "--prompt=x",
                "--init=experiments/results/small_samples.png",
                "--out=O",
            ],
            "small_samples.png': this run's generator does not sample step by step",
        ),
        (
            ["evaluate", "--workdir=RUN", "--guidance=1,2", "--out=O"],
            "guidance=1,2: none of losses samples",
        ),
        (["caption", "--workdir=RUN", "--images=none*", "--out=O"], "no picture there"),
        (["caption", "--workdir=RUN", "--images=RUN", "--language=fr", "--out=O"], "language='fr'"),
        (["evaluate", "--workdir=RUN", "--evals=fid", "--out=O"], "evals='fid'"),
        (["data", "show", "--source=foldr:x", "--out=O"], "foldr"),
        (["data", "convert", "--source=synthetic:train,n=2", "--to=zip:x"], "give KIND:DIR"),
        (["bench", "--only=speed"], "only='speed'"),
    ],
)
def test_mistakes_are_one_sentence_and_exit_code_2(argv, words, run, tmp_path, capsys):
    argv = [
        a.replace("RUN", str(run))
        .replace("=W", f"={tmp_path / 'w'}")
        .replace("=O", f"={tmp_path / 'o'}")
        for a in argv
    ]
    before = sorted(p.name for p in run.rglob("*"))
    assert cli.main(argv) == 2
    said = capsys.readouterr().err.strip()
    assert words in said and "Traceback" not in said and "\n" not in said
    assert sorted(p.name for p in run.rglob("*")) == before


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (
            ["sample", "--workdir=x", "--promt=x", "--out=o"],
            "unrecognized arguments: --promt=x; did you mean --prompt?",
        ),
        (
            ["sample", "--workdir=x", "--prompt=x", "--out=o", "--num=abc"],
            "argument --num: invalid int value: 'abc'",
        ),
        (["sample", "--workdir=x", "--prompt=x"], "the following arguments are required: --out"),
        (["data"], "required: action"),
    ],
)
def test_mistakes_in_options_are_one_sentence_too(argv, words, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(argv)
    said = capsys.readouterr().err.strip()
    assert (
        stopped.value.code == 2 and words in said and "\n" not in said and "--help` lists" in said
    )


def test_a_python_level_true_for_a_number_is_refused(tmp_path):
    for path, value in (
        ("training__steps", True),
        ("generator__width", True),
        ("optimizer__b2", None),
        ("generator__drop_text", float("nan")),
    ):
        with pytest.raises(UserError, match=path.replace("__", ".")):
            train(tiny_config(**{path: value}), tmp_path / "w", quiet=True)
    assert not (tmp_path / "w").exists()


def test_another_text_model_or_codec_is_refused(run, tmp_path):
    other = tmp_path / "copy"
    shutil.copytree(run, other)
    (other / "text.model").write_bytes((other / "text.model").read_bytes() + b"x")
    assert cli.main(["sample", f"--workdir={other}", "--prompt=x", f"--out={tmp_path / 'o'}"]) == 2
    wrong = tiny_config(codec__workdir=str(run / "codec"), training__ema=0.9)
    wrong.codec.experiment.codec.vocabulary = 128
    with pytest.raises(UserError, match="codec.workdir"):
        train(wrong, tmp_path / "w", quiet=True)


def test_a_codec_below_its_floor_does_not_start_a_generator(run, tmp_path):
    config = tiny_config(codec__workdir=str(run / "codec"), codec__floors={"two_objects": 1.01})
    with pytest.raises(UserError, match="codec.floors.two_objects=1.01: the codec reaches"):
        train(config, tmp_path / "w", quiet=True)
    assert not (tmp_path / "w" / "metrics.jsonl").exists()


def test_a_run_does_not_go_back(run, tmp_path):
    shutil.copytree(run, tmp_path / "w")
    before = (tmp_path / "w" / "config.json").read_bytes()
    shorter = tiny_config(
        training__ema=0.9, training__steps=4, evals={"losses": {"batches": 1, "batch_size": 8}}
    )
    with pytest.raises(UserError, match=r"training.steps=4: the run in .* has gone to 6"):
        train(shorter, tmp_path / "w", quiet=True)
    assert (tmp_path / "w" / "config.json").read_bytes() == before


@pytest.mark.parametrize("content", ["{}", "[]", '{"config": 5}', "{"])
def test_a_config_file_that_is_none_is_said(content, tmp_path, capsys):
    (tmp_path / "config.json").write_text(content)
    assert (
        cli.main(["sample", f"--workdir={tmp_path}", "--prompt=x", f"--out={tmp_path / 'o'}"]) == 2
    )
    assert "config.json cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    "broken", ["def get_config(:", "import nowhere", "def get_config():\n    return 1 / 0"]
)
def test_an_experiment_file_that_fails_is_named_with_its_line(broken, tmp_path, capsys):
    (tmp_path / "x.py").write_text(broken)
    assert cli.main(["train", f"--config={tmp_path}/x.py", f"--workdir={tmp_path}/w"]) == 2
    said = capsys.readouterr().err
    assert "x.py, line" in said and "correct the file" in said and "Traceback" not in said


def test_two_runs_cannot_share_a_workdir(run, tmp_path):
    with Workdir(tmp_path / "w").locked(), pytest.raises(UserError, match="another run is writing"):
        train(tiny_config(), tmp_path / "w", quiet=True)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {
                "generator__process__times": {"name": "uniform"},
                "generator__process__weighting": {"name": "snr"},
                "generator__drop_text": 0.3,
            },
            "",
        ),
        (
            {"generator__process__prediction": "eps"},
            "training.first.generator.process.prediction='eps': must be as in this experiment, 'v'",
        ),
        (
            {"generator__process__schedule": {"name": "cosine"}},
            "training.first.generator.process.schedule=Cosine",
        ),
        ({"generator__denoiser__width": 64}, "training.first.generator.denoiser.width=64"),
    ],
)
def test_what_is_trained_first_differs_only_in_what_a_run_may_grow_in(changes, words):
    first = tiny_diffusion(**changes).to_dict()
    with pytest.raises(UserError, match=re.escape(words)) if words else contextlib.nullcontext():
        build_experiment(tiny_diffusion(training__first=first))
