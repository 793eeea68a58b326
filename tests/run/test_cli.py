"""The command contract: verbs, exit codes, resuming. Runs are tiny."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import tiny_config
from tests.flags import UNOPTIMIZED
from vilg.run import cli
from vilg.run.terminal.huge_pages import HUGE_PAGES
from vilg.training.log import read_metrics
from vilg.types import UserError
from vilg.workdir.training import train

TINY = "--config=experiments/ernie_vilg.py:tiny"
REPEATABLE = ("time", "step_seconds")


def lines(path: Path) -> list[dict]:
    return [
        {k: v for k, v in line.items() if k not in REPEATABLE}
        for line in read_metrics(path / "metrics.jsonl")
    ]


def test_a_run_leaves_what_the_contract_says(run):
    assert json.loads((run / "config.json").read_text())["config"]["training"]["steps"] == 6
    assert [line["step"] for line in lines(run)] == [1, 2, 3, 4, 5, 6]
    assert (run / "codec" / "config.json").exists() and (run / "text.model").exists()
    assert list(run.glob("events.out.tfevents*"))
    table = (run / "parameters.txt").read_text()
    assert "layout dp on 8 device(s)" in table and "trunk" in table and "float32" in table


def test_train_on_a_finished_run_is_over_at_once(run):
    before = (run / "metrics.jsonl").read_bytes()
    train(
        tiny_config(training__ema=0.9, evals={"losses": {"batches": 1, "batch_size": 8}}),
        run,
        quiet=True,
    )
    assert (run / "metrics.jsonl").read_bytes() == before


def test_a_longer_run_goes_on(run, tmp_path):
    with pytest.raises(UserError, match="training.batch_size"):
        train(tiny_config(training__ema=0.9, training__batch_size=24), run, quiet=True)
    assert len(lines(run)) == 6


def script(path: Path, codec: Path) -> list[str]:
    """A training process of ten steps on one device, from the tests' tiny config, logging every
    step.
    """
    code = (
        "from tests.conftest import tiny_config\nfrom vilg.run import cli\nimport sys\nfrom"
        " vilg.run import train\nconfig = tiny_config(training__steps=10,"
        " training__checkpoint_every=3, training__ema=0.9,"
        f" codec__workdir={str(codec)!r})\ncli.read_config = lambda arguments:"
        f" config\nsys.exit(cli.main(['train', '--config=x.py', '--workdir={path}', '--quiet']))"
    )
    return [sys.executable, "-c", code]


def start(path: Path, codec: Path) -> subprocess.Popen:
    env = {**os.environ, "XLA_FLAGS": UNOPTIMIZED, "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(script(path, codec), env=env, stderr=subprocess.DEVNULL)


def wait_for_step(path: Path, step: int, process: subprocess.Popen) -> None:
    until = time.time() + 240
    while time.time() < until:
        found = read_metrics(path / "metrics.jsonl")
        if found and found[-1]["step"] >= step:
            return
        assert process.poll() is None, f"the run ended before step {step}"
        time.sleep(0.01)
    raise AssertionError(f"no step {step}")


def test_killed_and_resumed_equals_uninterrupted_bitwise(run, tmp_path):
    whole = start(tmp_path / "whole", run / "codec")
    assert whole.wait() == 0
    killed = start(tmp_path / "killed", run / "codec")
    wait_for_step(tmp_path / "killed", 5, killed)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    again = start(tmp_path / "killed", run / "codec")
    assert again.wait() == 0
    assert lines(tmp_path / "killed") == lines(tmp_path / "whole")


def test_sample_caption_and_evaluate_write_what_the_contract_says(run, tmp_path):
    out = tmp_path / "out"
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("一个大红色圆形\n")
    argv = [
        "sample",
        f"--workdir={run}",
        "--prompt=a large red circle",
        f"--prompts={prompts}",
        f"--out={out}",
        "--num=2",
        "--seed=5",
    ]
    assert (
        cli.main([*argv, "--guidance=1.5", "--temperature=0.9", "--top_k=20", "--top_p=0.95"]) == 0
    )
    made = [json.loads(line) for line in (out / "samples.jsonl").read_text().splitlines()]
    assert [m["language"] for m in made] == ["en", "en", "zh", "zh"]
    assert [m["seed"] for m in made] == [5, 6, 5, 6]
    assert all(np.asarray(Image.open(out / m["file"])).shape == (32, 32, 3) for m in made)
    assert (out / "grid.png").exists()
    (out / "grid.png").unlink()
    (out / "broken.png").write_bytes(b"not a picture")
    file = tmp_path / "captions.jsonl"
    assert (
        cli.main(
            ["caption", f"--workdir={run}", f"--images={out}", "--language=zh,en", f"--out={file}"]
        )
        == 0
    )
    captions = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(captions) == 4 and all(len(c["captions"]) == len(c["scores"]) == 2 for c in captions)
    assert [c["language"] for c in captions[0]["captions"]] == ["zh", "en"]
    result = tmp_path / "result.json"
    assert cli.main(["evaluate", f"--workdir={run}", f"--out={result}"]) == 0
    found = json.loads(result.read_text())
    assert found["metrics"]["losses"]["loss"] > 0 and found["protocol"]["parameters"] == "ema"


def test_a_sample_does_not_depend_on_the_other_prompts(run, tmp_path):
    common = [f"--workdir={run}", "--temperature=1"]
    assert cli.main(["sample", *common, "--prompt=a red ring", f"--out={tmp_path / 'a'}"]) == 0
    assert (
        cli.main(
            [
                "sample",
                *common,
                "--prompt=x",
                "--prompt=y",
                "--prompt=a red ring",
                f"--out={tmp_path / 'b'}",
            ]
        )
        == 0
    )
    assert (tmp_path / "a" / "00000.png").read_bytes() == (
        tmp_path / "b" / "00002.png"
    ).read_bytes()


def test_a_picture_can_be_made_again_from_its_line(run, tmp_path):
    common = ["sample", f"--workdir={run}", "--prompt=a red ring", "--temperature=1"]
    assert cli.main([*common, "--num=2", "--seed=3", f"--out={tmp_path / 'a'}"]) == 0
    second = json.loads((tmp_path / "a" / "samples.jsonl").read_text().splitlines()[1])
    assert cli.main([*common, f"--seed={second['seed']}", f"--out={tmp_path / 'b'}"]) == 0
    assert (tmp_path / "a" / second["file"]).read_bytes() == (
        tmp_path / "b" / "00000.png"
    ).read_bytes()
    assert (
        cli.main(
            ["caption", f"--workdir={run}", f"--images={tmp_path / 'a'}", f"--out={tmp_path / 'c'}"]
        )
        == 0
    )
    assert len((tmp_path / "c").read_text().splitlines()) == 2  # the sheet is not captioned


def test_a_caption_does_not_depend_on_the_other_pictures(run, tmp_path):
    assert (
        cli.main(
            [
                "sample",
                f"--workdir={run}",
                "--prompt=a red ring",
                "--num=3",
                "--temperature=1",
                f"--out={tmp_path / 'a'}",
            ]
        )
        == 0
    )
    common = ["caption", f"--workdir={run}", "--temperature=1"]
    assert (
        cli.main([*common, f"--images={tmp_path / 'a' / '*2.png'}", f"--out={tmp_path / 'alone'}"])
        == 0
    )
    assert cli.main([*common, f"--images={tmp_path / 'a'}", f"--out={tmp_path / 'all'}"]) == 0
    alone, among = (
        json.loads((tmp_path / n).read_text().splitlines()[-1]) for n in ("alone", "all")
    )
    assert [c["text"] for c in alone["captions"]] == [c["text"] for c in among["captions"]]


def test_a_long_prompt_is_reported_as_cut(run, tmp_path, capsys):
    assert (
        cli.main(
            ["sample", f"--workdir={run}", f"--prompt={'a red ring ' * 30}", f"--out={tmp_path}"]
        )
        == 0
    )
    assert "cut 1 prompt longer than data.text.length=24" in capsys.readouterr().err
    assert json.loads((tmp_path / "samples.jsonl").read_text())["truncated"] is True


def test_a_closed_pipe_is_no_traceback():
    with subprocess.Popen(
        [sys.executable, "-m", "vilg", "--help"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as command:
        command.stdout.close()
        said = command.stderr.read()
    assert "Traceback" not in said and command.returncode == 1


def test_a_reader_that_goes_away_is_no_error():
    """`vilg train 2>&1 | head`: the lines for people go to nowhere, and the work goes on."""
    code = (
        "import sys, time\nfrom vilg.run.terminal.standard_error import Unread\nstream ="
        " Unread(sys.stderr)\nfor _ in range(2000):\n    print('a line', file=stream,"
        " flush=True)\nprint('done')"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as command:
        command.stderr.readline()
        command.stderr.close()
        assert command.stdout.read() == "done\n"
    assert command.returncode == 0


def test_too_much_at_once_is_one_sentence(monkeypatch, capsys):
    def call(verb, argv):
        raise MemoryError("Unable to allocate 466. GiB")

    monkeypatch.setattr(cli, "call", call)
    assert cli.main(["sample"]) == 1
    assert capsys.readouterr().err.startswith(
        "vilg sample: out of memory (Unable to allocate 466. GiB); ask for less at once"
    )


def test_a_mistaken_codec_leaves_no_run_behind(run, tmp_path):
    with pytest.raises(UserError, match="is the run of a generator or ranker; its codec is in"):
        train(tiny_config(codec__workdir=str(run)), tmp_path / "w", quiet=True)
    assert not (tmp_path / "w").exists()


def test_pictures_of_an_earlier_call_are_replaced(run, tmp_path):
    out = tmp_path / "out"
    assert cli.main(["sample", f"--workdir={run}", "--prompt=x", "--num=3", f"--out={out}"]) == 0
    (out / "mine.png").write_bytes((out / "00000.png").read_bytes())
    assert cli.main(["sample", f"--workdir={run}", "--prompt=y", f"--out={out}"]) == 0
    assert sorted(p.name for p in out.glob("*.png")) == ["00000.png", "grid.png", "mine.png"]


def test_a_run_notes_the_commit_that_trained_it(run):
    stored = json.loads((run / "config.json").read_text())
    assert len(stored["commits"]) == 1 and stored["commits"][0]


def test_doctor_compares_a_config_with_a_run(run, capsys):
    assert cli.main(["doctor", TINY, f"--workdir={run}"]) == 1
    assert "give the same, or another --workdir" in capsys.readouterr().out


def test_a_run_starts_from_the_parameters_and_ids_of_another(run, tmp_path):
    made = {
        "codec__workdir": str(run / "codec"),
        "training__steps": 1,
        "training__checkpoint_every": 1,
        "training__start_from": str(run),
    }
    train(tiny_config(**made), tmp_path / "w", quiet=True)
    assert (tmp_path / "w" / "text.model").read_bytes() == (run / "text.model").read_bytes()
    assert lines(tmp_path / "w")[0]["loss"] < lines(run)[0]["loss"]
    with pytest.raises(UserError, match="training.start_from=.*has shape"):
        train(tiny_config(**made, generator__width=16), tmp_path / "v", quiet=True)
    assert not (tmp_path / "v" / "text.model").exists()
    (tmp_path / "u").mkdir()
    (tmp_path / "u" / "text.model").write_bytes(b"of some other run")
    with pytest.raises(UserError, match="training.start_from=.*another text model"):
        train(tiny_config(**made), tmp_path / "u", quiet=True)


def test_a_codec_trained_again_is_another_tokenizer(run, tmp_path, capsys):
    """One update more, in a copy: the same config, other codes."""
    shutil.copytree(run, tmp_path / "w")
    longer = tiny_config(codec__workdir="")
    longer.codec.experiment.training.steps += 1
    train(longer.codec.experiment, tmp_path / "w" / "codec", quiet=True)
    assert (
        cli.main(["sample", f"--workdir={tmp_path}/w", "--prompt=x", f"--out={tmp_path / 'o'}"])
        == 2
    )
    assert "its codec was" in capsys.readouterr().err
    changed = dict(codec__workdir=str(tmp_path / "w" / "codec"), training__start_from=str(run))
    with pytest.raises(UserError, match="codes of another tokenizer"):
        train(tiny_config(**changed), tmp_path / "u", quiet=True)


def test_runs_are_found_from_any_directory_and_move_together(run, tmp_path, monkeypatch):
    shutil.copytree(run / "codec", tmp_path / "here" / "codec")
    config = tiny_config(codec__workdir="codec", training__steps=1, training__checkpoint_every=1)
    monkeypatch.chdir(tmp_path / "here")
    train(config, "model", quiet=True)
    monkeypatch.chdir("/")
    (tmp_path / "here").rename(tmp_path / "there")
    assert (
        cli.main(
            ["sample", f"--workdir={tmp_path}/there/model", "--prompt=x", f"--out={tmp_path / 'o'}"]
        )
        == 0
    )


def test_a_link_to_a_workdir_finds_its_codec(run, tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "er")
    shutil.copytree(run / "codec", tmp_path / "codec")
    config = tiny_config(
        codec__workdir=str(tmp_path / "codec"), training__steps=1, training__checkpoint_every=1
    )
    train(config, tmp_path / "link", quiet=True)
    assert (
        cli.main(["sample", f"--workdir={tmp_path}/link", "--prompt=x", f"--out={tmp_path / 'o'}"])
        == 0
    )


def test_a_run_is_sampled_where_its_mesh_does_not_fit(run, tmp_path):
    shutil.copytree(run, tmp_path / "w")
    stored = json.loads((tmp_path / "w" / "config.json").read_text())
    stored["config"]["layout"]["name"] = "fsdp_tp:model=3"
    (tmp_path / "w" / "config.json").write_text(json.dumps(stored))
    assert (
        cli.main(["sample", f"--workdir={tmp_path}/w", "--prompt=x", f"--out={tmp_path / 'o'}"])
        == 0
    )


def test_fields_that_an_experiment_leaves_out_can_be_overridden():
    config = cli.read_config(
        [TINY, "--config.training.start_from=x", "--config.codec.experiment.training.keep_last=5"]
    )
    assert config.training.start_from == "x" and config.codec.experiment.training.keep_last == 5
    parts = (
        "generator.denoiser.query_chunk=4",
        "generator.text.qk_norm=False",
        "codec.experiment.codec.quantizer.beta=0.5",
    )
    config = cli.read_config(
        ["--config=experiments/ernie_vilg2.py:tiny", *(f"--config.{part}" for part in parts)]
    )
    assert (
        config.generator.denoiser.query_chunk,
        config.codec.experiment.codec.quantizer.beta,
    ) == (4, 0.5)


@pytest.mark.parametrize(
    ("cut", "told"),
    [("c.pop('training')", "training"), ("c.update(generator='autoregressive')", "generator")],
)
@pytest.mark.parametrize("verb", [["plan", "--topology=cpu:8", "--batch=8"], ["verify"]])
def test_an_experiment_that_lacks_a_section_is_a_sentence(cut, told, verb, tmp_path, capsys):
    file = tmp_path / "cut.py"
    source = (
        "from vilg.experiment_file import load_config\ndef get_config():\n    c ="
        " load_config('experiments/ernie_vilg.py:tiny').to_dict()\n"
    )
    file.write_text(
        f"from ml_collections import ConfigDict\n{source}    {cut}\n    return ConfigDict(c)\n"
    )
    assert cli.main([*verb, f"--config={file}"]) == 2
    said = capsys.readouterr().err
    assert told in said and said.count("\n") == 1, said


def huge_pages(table: str) -> str:
    (row,) = (line for line in table.splitlines() if "huge pages" in line)
    return [cell.strip() for cell in row.split("│")][2]


def run_with(tunables: str, *command: str) -> str:
    """What a Python command prints when it is started with these tunables of glibc's malloc."""
    env = dict(os.environ, GLIBC_TUNABLES=tunables)
    return subprocess.run(
        [sys.executable, *command], env=env, capture_output=True, text=True, check=True
    ).stdout


def test_a_process_asks_for_huge_pages():
    assert huge_pages(run_with("", "-m", "vilg", "doctor")) == "asked for"


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("glibc.malloc.mmap_max=3", "glibc.malloc.mmap_max=3:" + HUGE_PAGES),
        (("glibc.malloc.hugetlb=0",) * 2),
    ],
)
def test_huge_pages_are_not_asked_for_over_what_the_environment_says(given, found):
    code = (
        "import os\nfrom vilg.run import"
        " cli\ncli.ask_for_huge_pages()\nprint(os.environ['GLIBC_TUNABLES'])"
    )
    assert run_with(given, "-c", code) == found + "\n"


@pytest.mark.parametrize(
    ("given", "found"),
    [("a.b=1:" + HUGE_PAGES, "asked for"), ("glibc.malloc.hugetlb=0", "not asked for")],
)
def test_doctor_says_whether_huge_pages_are_asked_for(given, found, monkeypatch, capsys):
    monkeypatch.setenv("GLIBC_TUNABLES", given)
    assert cli.main(["doctor"]) == 0
    assert huge_pages(capsys.readouterr().out) == found


def test_doctor_names_a_contradiction(capsys):
    assert cli.main(["doctor", TINY]) == 0
    assert cli.main(["doctor", TINY, "--config.layout.name=tp:model=3"]) == 1
    said = capsys.readouterr().out
    assert "contradiction" in said and "choose sizes whose product is 8" in said.splitlines()[-1]


def test_an_experiment_that_comes_first_is_trained_first_and_started_from(run, tmp_path):
    """One command, and the same as by hand; a run that goes on does not look for it again."""
    common = dict(
        codec__workdir=str(run / "codec"), training__steps=2, training__checkpoint_every=2
    )
    before = tiny_config(**common | {"codec__workdir": ""}, data__loader__seed=7)
    train(tiny_config(**common, training__first=before.to_dict()), tmp_path / "one", quiet=True)
    train(tiny_config(**common, data__loader__seed=7), tmp_path / "first", quiet=True)
    train(
        tiny_config(**common, training__start_from=str(tmp_path / "first")),
        tmp_path / "two",
        quiet=True,
    )
    assert lines(tmp_path / "one" / "first") == lines(tmp_path / "first")
    assert lines(tmp_path / "one") == lines(tmp_path / "two")
    assert lines(tmp_path / "one")[0]["loss"] < lines(tmp_path / "first")[0]["loss"]
    shutil.rmtree(tmp_path / "one" / "first")
    train(
        tiny_config(**common | {"training__steps": 3}, training__first=before.to_dict()),
        tmp_path / "one",
        quiet=True,
    )
    assert len(lines(tmp_path / "one")) == 3 and not (tmp_path / "one" / "first").exists()
    wider = tiny_config(generator__width=64).to_dict()
    with pytest.raises(
        UserError, match="training.first.generator.width=64: must be as in this experiment"
    ):
        train(tiny_config(training__first=wider), tmp_path / "x", quiet=True)
