"""vilg verify: equal layouts are equal, and what goes wrong in sharded programs is caught and
named.
"""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from tests.conftest import tiny_config, tiny_diffusion
from vilg.experiment import build_experiment
from vilg.experiment_file import load_config, to_dict
from vilg.parallel import constrain
from vilg.parallel.axes import named
from vilg.parallel.layouts import parse_layout
from vilg.run import cli
from vilg.run.plan import verb as plan
from vilg.run.verify import verb as verify
from vilg.run.verify.options import options_of, with_options
from vilg.run.verify.step import Inputs, Step, compared
from vilg.types import Model

ROWS, WIDTH = 16, 8


@dataclasses.dataclass(frozen=True)
class Toy(Model):
    """A small trainable whose loss and gradients are computed device by device and then averaged,
    with one mistake, or with none.
    """

    mistake: str = ""

    def init(self, key):
        init = jax.nn.initializers.normal(0.5)
        return {
            "first": named(init, "channels_in", "mlp")(key, (16, WIDTH), jnp.float32),
            "second": named(init, "mlp", "embed")(key, (WIDTH, WIDTH), jnp.float32),
        }

    def loss(self, params, batch, key, step):
        x = batch["codes"].mean((1, 2))
        resolve = constrain._resolver.get()
        assert resolve is not None
        mesh = resolve((), ()).mesh
        over = {"sum along the wrong axis": "model", "sum that is missing": ()}.get(
            self.mistake, "data"
        )

        def part(params, x, key):
            if self.mistake == "key of the device":
                key = jax.random.fold_in(key, jax.lax.axis_index("data"))
            if self.mistake == "norm over the batch":
                x = (x - x.mean(0)) / (x.std(0) + 1)
            noise = jax.random.normal(key, (WIDTH,))
            value, grads = jax.value_and_grad(
                lambda p: jnp.mean(jnp.tanh(x @ p["first"] + noise) @ p["second"])
            )(params)
            return jax.lax.pmean(value, "data"), jax.lax.pmean(grads, over) if over else grads

        specs = (PartitionSpec(), PartitionSpec("data"), PartitionSpec())
        value, grads = jax.shard_map(
            part, mesh=mesh, in_specs=specs, out_specs=PartitionSpec(), check_vma=False
        )(params, x, key)
        value, grads, here = jax.lax.stop_gradient((value, grads, params))
        return (
            value + sum(jnp.vdot(grads[k], params[k] - here[k]) for k in params),
            {},
        )  # the value, with these for its gradients


MISTAKES = (
    "",
    "sum that is missing",
    "sum along the wrong axis",
    "norm over the batch",
    "key of the device",
)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_goes_wrong_between_devices_is_caught_and_named(mistake):
    config = tiny_diffusion().to_dict()
    inputs = Inputs(config)
    experiment = dataclasses.replace(build_experiment(config), model=Toy(mistake))
    inputs.params = {k: np.asarray(v.value) for k, v in Toy().init(jax.random.key(0)).items()}
    layout = parse_layout("fsdp_tp")
    layout = dataclasses.replace(
        layout, params={}, gradients={}, optimizer={}, compute={"batch": "data"}
    )
    steps = [
        Step(
            experiment,
            inputs,
            dataclasses.replace(layout, mesh={"data": n, "model": m}),
            jax.devices()[: n * m],
        )
        for n, m in ((1, 1), (4, 2))
    ]
    row = compared(*steps, "float32")
    if mistake:
        assert (
            row["status"] == "differs"
            and row["first_leaf"] in ("first", "second")
            and row["gradient_error"] > 1e-3
        )
    else:
        assert row["status"] == "equal" and row["first_leaf"] is None and row["loss_error"] < 1e-6


def step_of(loss, **gradients):
    step = object.__new__(Step)
    step.loss, step.gradients = loss, {k: np.asarray(v, np.float32) for k, v in gradients.items()}
    step.mesh, step.collectives, step.sharded_fraction = (
        {"data": 8},
        {"data": {"all-reduce": {"count": 1, "bytes": 4}}},
        0.0,
    )
    return step


def test_tolerances_are_those_of_the_largest_leaf_and_the_first_wrong_one_is_named():
    reference = step_of(1.0, big=[100.0], small=[1e-9], mid=[1.0])
    assert (
        compared(reference, step_of(1.0, big=[100.0], small=[5e-7], mid=[1.0]), "float32")["status"]
        == "equal"
    )  # 5e-7 of .1
    row = compared(reference, step_of(1.0, big=[100.0], small=[1e-5], mid=[1.1]), "float32")
    assert (row["status"], row["first_leaf"], row["worst_leaf"]) == ("differs", "small", "mid")
    assert (
        compared(reference, step_of(1.0 + 2e-5, big=[100.0], small=[1e-9], mid=[1.0]), "float32")[
            "status"
        ]
        == "differs"
    )
    assert (
        compared(reference, step_of(1.0, big=[100.0], small=[np.nan], mid=[1.0]), "float32")[
            "first_leaf"
        ]
        == "small"
    )
    assert (
        compared(reference, step_of(1.0005, big=[101.0], small=[1e-9], mid=[1.0]), "bfloat16")[
            "status"
        ]
        == "equal"
    )
    silent = step_of(1.0, big=[100.0], small=[1e-9], mid=[1.0])
    silent.collectives = {}
    assert compared(reference, silent, "float32")["status"] == "invalid"


def test_options_are_changed_wherever_they_are():
    config = tiny_diffusion().to_dict()
    joint = [{"attention_implementation": name} for name in ("dot_product", "splash")]
    assert options_of(config) == [{"accumulation": 2}, {"scan": True}, *joint]
    assert (
        with_options(config, joint[1])["generator"]["denoiser"]["attention_implementation"]
        == "splash"
    )
    config["generator"]["denoiser"]["query_chunk"] = 4
    assert with_options(config, joint[1])["generator"]["denoiser"]["query_chunk"] == 0
    made = with_options(config, {"scan": True, "accumulation": 2})
    assert (
        made["generator"]["denoiser"]["scan"]
        and made["generator"]["text"]["scan"]
        and made["training"]["accumulation"] == 2
    )
    assert not config["generator"]["denoiser"]["scan"]
    silent = tiny_config().to_dict()
    del silent["generator"]["attention"]
    assert {"attention": "splash"} in options_of(silent)
    found = options_of(tiny_config().to_dict())
    assert [o for o in found if "attention" in o] == [
        {"attention": name} for name in ("dense", "dot_product", "splash")
    ]
    assert {"remat": "full"} in found and {"directions": "together"} in found


@pytest.mark.slow
def test_a_codecs_run_has_the_options_that_it_has():
    assert options_of(to_dict(load_config("experiments/tokenizer.py:tiny")))[0] == {
        "accumulation": 2
    }


def test_scanned_experts_give_what_unrolled_ones_give():
    """Of a U-Net with two experts: parameters and gradients are brought into the same form before
    they are compared.
    """
    unet = dict(
        name="unet",
        channels=8,
        multipliers=(1, 2),
        blocks=2,
        attention=(),
        head_width=4,
        groups=8,
        scan=False,
    )
    config = tiny_diffusion(
        generator__denoiser=unet, generator__experts=dict(n=2, train_text=True)
    ).to_dict()
    inputs, alone = Inputs(config), jax.devices()[:1]
    plain, scanned = (
        Step(
            build_experiment(with_options(config, {"scan": scan})),
            inputs,
            parse_layout("dp"),
            alone,
        )
        for scan in (False, True)
    )
    row = compared(plain, scanned, "float32")
    assert row["loss_error"] <= 1e-5 and row["gradient_error"] <= 1e-5, row


def test_the_verb_writes_its_contract(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(verify, "options_of", lambda config: [{"accumulation": 2}])
    path = tmp_path / "verify.json"
    shape = [
        "--config.generator.layers=1",
        "--config.generator.width=16",
        "--config.generator.caption_every=1",
    ]
    assert (
        cli.main(
            [
                "verify",
                "--config=experiments/ernie_vilg.py:tiny",
                *shape,
                "--layouts=dp,fsdp_tp:model=3",
                f"--json={path}",
            ]
        )
        == 1
    )
    report = json.loads(path.read_text())
    assert {"rows", "reference", "tolerances", "versions"} == set(report)
    keys = (
        "layout mesh devices options dtype loss_error gradient_error worst_leaf sharded_fraction"
        " collectives status"
    )
    assert all(set(keys.split()) <= set(row) for row in report["rows"])
    assert [(r["layout"], r["status"]) for r in report["rows"]][:2] == [
        ("dp", "equal"),
        ("fsdp_tp:model=3", "invalid"),
    ]
    assert "does not fit 8 device" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--devices=1"], "devices=1: give at least 2"),
        (["--layouts=dq"], "known layouts are dp"),
        (["--devices=9"], "devices=9: JAX has 8"),
        (["--json=/proc/nowhere/rows.json"], "/proc/nowhere"),  # before the minutes of work
    ],
)
def test_mistakes_are_one_sentence(options, words, capsys):
    assert cli.main(["verify", "--config=experiments/ernie_vilg.py:tiny", *options]) == 2
    assert words in capsys.readouterr().err


def test_an_experiment_that_starts_from_another_is_changed_alone(monkeypatch):
    """What is trained before it must have the same generator, which no step depends on."""
    seen = []
    monkeypatch.setattr(verify, "verify", lambda config, *_: seen.append(config) or [])
    assert (
        cli.main(["verify", "--config=experiments/ernie_vilg2.py:tiny_experts", "--dtype=bfloat16"])
        == 1
    )
    monkeypatch.setattr(plan, "compile_all", lambda task, *_: seen.append(task.config) or [])
    monkeypatch.setattr(plan, "show", lambda *_: None)
    argv = [
        "plan",
        "--config=experiments/ernie_vilg2.py:tiny_experts",
        "--topology=cpu:8",
        "--config.generator.text.remat=full",
    ]
    assert cli.main(argv) == 2
    for config in seen:
        assert build_experiment(with_options(config, {"scan": True})).model.denoiser.scan
    assert [config["generator"]["text"]["remat"] for config in seen] == ["none", "full"]
