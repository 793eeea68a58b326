"""Runs of single experts joined into one, and what is refused; and quality against guidance."""

import json
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from tests.conftest import tiny_diffusion
from tests.run.conftest import codec_is_known
from vilg.evals.losses import Losses
from vilg.evals.scenes import Scenes
from vilg.experiment import build_experiment
from vilg.run import cli
from vilg.run.assemble import assemble, host_program
from vilg.run.evaluate import sweep
from vilg.training.checkpoint import Checkpoints, digest, named_leaves
from vilg.types import UserError
from vilg.workdir.files import Record, Workdir
from vilg.workdir.restore import restore
from vilg.workdir.session import open_session
from vilg.workdir.training import train


def part(only, codec, **changes):
    """The config of one expert's run; it differs from the others' in that only."""
    changes = {"training__steps": 2, "training__checkpoint_every": 2, **changes}
    return tiny_diffusion(
        generator__experts=dict(n=2, only=only), codec__workdir=str(codec), **changes
    )


@pytest.fixture(scope="module")
def parts(codec_run, tmp_path_factory):
    """A run of expert 0, trained, and one of expert 1, whose denoiser is another."""
    root = tmp_path_factory.mktemp("parts")
    with codec_is_known():
        train(part(0, codec_run), root / "0", quiet=True)
    change = {"denoiser": lambda x: 0.5 * x + 0.1}
    return [
        root / "0",
        copy(
            root / "0",
            root / "1",
            change,
            lambda s: s["config"]["generator"]["experts"].update(only=1),
        ),
    ]


def copy(source, place, change=None, note=None):
    """A copy of a part with the arrays changed whose names hold the keys of `change`, and with its
    config.json noted otherwise.
    """
    shutil.copytree(
        source, place, ignore=shutil.ignore_patterns("checkpoints" if change else "events*")
    )
    stored = Workdir(source).read().content()
    if note:
        note(stored)
    Workdir(place).write(Record.of(stored))
    if change:
        program = host_program(build_experiment(stored["config"]))
        state, data = restore(Workdir(source), program)
        leaves = {
            k: next((f(x) for name, f in change.items() if name in k), x)
            for k, x in named_leaves(state).items()
        }
        state = jax.tree.unflatten(jax.tree.structure(state), list(leaves.values()))
        checkpoints = Checkpoints(Workdir(place).checkpoints, digest=program.jit(digest))
        checkpoints.save(int(state.step), state, data)
        checkpoints.close()
    return place


@pytest.fixture(scope="module")
def whole(parts, tmp_path_factory):
    """The assembled run."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert cli.main(["assemble", f"--parts={parts[1]},{parts[0]}", f"--out={out}"]) == 0
    return out


def test_the_assembled_run_is_the_parts_parameters_and_samples(parts, whole, tmp_path):
    session = open_session(str(whole), ema=True)
    singles = [open_session(str(p), ema=True) for p in parts]
    assert session.step == 2 and not list(whole.parent.glob("*.assembling"))
    for name, value in named_leaves(session.params["denoiser"]).items():
        for k, single in enumerate(singles):
            np.testing.assert_array_equal(value[k], named_leaves(single.params["denoiser"])[name])
    assert any(
        np.any(v[0] != v[1]) for v in jax.tree.leaves(jax.device_get(session.params["denoiser"]))
    )
    assert (
        cli.main(
            ["sample", f"--workdir={whole}", "--prompt=a red ring", f"--out={tmp_path}", "--quiet"]
        )
        == 0
    )
    assert (
        cli.main(
            [
                "sample",
                f"--workdir={parts[0]}",
                "--prompt=a red ring",
                f"--out={tmp_path}",
                "--quiet",
            ]
        )
        == 2
    )


def test_the_assembled_run_can_be_trained_on(whole, codec_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    Workdir(run).write(Workdir(whole).read())  # the codec's place is told relative to the run
    train(part(-1, codec_run, training__steps=3), run, quiet=True)
    line = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert line["step"] == 3 and {"expert_0/loss", "expert_1/loss"} <= set(line)


def test_quality_against_guidance(whole, tmp_path, capsys):
    out = tmp_path / "curve.json"
    assert cli.main(["evaluate", f"--workdir={whole}", "--guidance=1,3", f"--out={out}"]) == 0
    found = json.loads(out.read_text())
    assert [p["guidance"] for p in found["guidance"]] == [1, 3] and found["protocol"]["scenes"][
        "guidance"
    ] == [1, 3]
    assert "single_object" in found["guidance"][0]["metrics"]["scenes"]
    with Image.open(tmp_path / "curve.png") as picture:
        assert picture.width > 300


def test_a_sweep_is_the_same_evaluators_with_other_guidance():
    evals = {"scenes": Scenes(n=4), "losses": Losses()}
    swept = sweep(evals, [1.0, 3.0], build_experiment(tiny_diffusion()).model)
    assert [e["scenes"] for e in swept] == [
        Scenes(n=4, sampling={"guidance": g}, captions=False) for g in (1.0, 3.0)
    ] and "losses" not in swept[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--guidance=1,x"], "guidance='x': is not a number"),
        (["--guidance=1,1.0"], "guidance='1,1.0': give different values"),
        (["--guidance=1,-2"], "guidance=-2.0: must be 0 or more"),
        (["--guidance=2,inf"], "guidance=inf: must be finite"),
        (["--guidance=2", "--out=PNG"], "give a .json file"),
    ],
)
def test_guidance_that_cannot_be_is_refused_before_any_work(
    options, words, whole, tmp_path, capsys
):
    options = [
        f"--out={tmp_path / 'x.json'}",
        *(o.replace("PNG", str(tmp_path / "x.png")) for o in options),
    ]
    assert cli.main(["evaluate", f"--workdir={whole}", *options]) == 2
    said = capsys.readouterr().err.strip()
    assert words in said and "\n" not in said and not list(tmp_path.iterdir())


def test_parts_that_do_not_go_together_are_refused(parts, codec_run, diffusion_run, tmp_path):
    def refused(parts, words, out="out"):
        before = sorted(tmp_path.iterdir())
        with pytest.raises(UserError, match=words):
            assemble([str(p) for p in parts], str(tmp_path / out) if out else "")
        assert sorted(tmp_path.iterdir()) == before

    refused([], "parts='': is empty")
    refused(parts[:1], "expert 1 of 2 missing; add the run of generator.experts.only=1")
    refused([parts[0], parts[0]], "trained expert 0, as .* did; give each expert once")
    refused([parts[0], diffusion_run], "trained all its experts together")
    refused([parts[0], codec_run], "has no experts")
    refused([parts[0], tmp_path], "holds no config.json")
    refused(parts, "out='': is empty", "")
    other = copy(parts[1], tmp_path / "seed", None, lambda s: s["config"].update(seed=7))
    refused([parts[0], other], "was trained with seed=7, .* with 0")
    other = copy(parts[1], tmp_path / "codec", None, lambda s: s.update(codec_hash="another"))
    refused([parts[0], other], r"the codec \(codec_hash=another\) is not that of")
    other = copy(parts[1], tmp_path / "scale", None, lambda s: s["latents"].update(mean=[1.0] * 16))
    refused([parts[0], other], "the scale of latents")
    other = copy(parts[1], tmp_path / "step", {"step": lambda x: x + 1})
    refused([parts[0], other], "is at step 3, .* at 2; train both to one step")
    other = copy(parts[1], tmp_path / "text", {"ema/text": lambda x: x + 1})
    refused([parts[0], other], "ema/text/.* is not that of .*, and experts share it")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("")
    refused(parts, "holds something already", "full")
