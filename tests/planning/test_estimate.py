"""Topologies, what of a torus a group's collectives can use, and the FLOPs that a model itself
needs.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.conftest import tiny_config, tiny_diffusion
from vilg.experiment import build_experiment
from vilg.parallel.model_flops import traced_flops
from vilg.planning.chips import CHIPS
from vilg.planning.costs import Collective, Costs, Kernel
from vilg.planning.estimate import (
    KERNEL_EFFICIENCY,
    collective_seconds,
    estimate,
    group_bandwidth,
)
from vilg.planning.topology import parse_topology
from vilg.program import Program, unbox
from vilg.types import UserError


@dataclass(frozen=True)
class Device:
    coords: tuple[int, ...]
    slice_index: int = 0


def torus(topology):
    return [
        Device(tuple(int(i) for i in place), s)
        for s in range(topology.slices)
        for place in np.ndindex(topology.shape)
    ]


@pytest.mark.parametrize(
    ("text", "chips", "devices"),
    [
        ("v5p:4x4x4", 64, 64),
        ("v5e:16x16,slices=2", 512, 512),
        ("tpu7x:4x4x4", 64, 128),
        ("cpu:8", 8, 8),
    ],
)
def test_a_topology_is_read_and_written(text, chips, devices):
    topology = parse_topology(text)
    assert (topology.chips, topology.size, str(topology)) == (chips, devices, text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("v9:4x4", "known names are 'v4', 'v5e'"),
        ("v5p", "write it as v5p:4x4x4"),
        ("v5e:4x4x4", "v5e is a torus of 2 dimensions"),
        ("v5e:16x0", "write it as v5e:4x4"),
        ("v5e:16x16,slices=0", ",slices=2"),
        ("v5e:16x16,slice=2", ",slices=2"),
    ],
)
def test_a_topology_that_is_none_is_one_sentence(text, words):
    with pytest.raises(UserError, match=words):
        parse_topology(text)


def test_fake_devices_that_are_not_there_are_asked_for():
    with pytest.raises(UserError, match="xla_force_host_platform_device_count=64"):
        parse_topology("cpu:64").devices()


def test_groups_use_the_links_of_the_dimensions_that_they_cross():
    topology = parse_topology("v5p:4x4x8")
    devices, link = torus(topology), CHIPS["v5p"].link
    ids = np.arange(128).reshape(4, 4, 8)
    assert (
        group_bandwidth(ids.reshape(16, 8).tolist(), devices, topology) == 2 * link
    )  # a ring of 8: both ways round
    assert (
        group_bandwidth(ids.transpose(2, 0, 1).reshape(8, 16).tolist(), devices, topology)
        == 4 * link
    )
    assert group_bandwidth([ids.reshape(-1).tolist()], devices, topology) == 6 * link
    assert (
        group_bandwidth(ids[..., :4].reshape(16, 4).tolist(), devices, topology) == link
    )  # a part of a ring is a line
    open_ends = parse_topology("v5e:8x8")
    assert (
        group_bandwidth(np.arange(64).reshape(8, 8).tolist(), torus(open_ends), open_ends)
        == CHIPS["v5e"].link
    )  # 8 of a pod's 16 do not close


def test_between_slices_the_network_is_used():
    topology = parse_topology("v5e:4x4,slices=2")
    devices = torus(topology)
    assert (
        group_bandwidth(np.arange(32).reshape(2, 16).T.tolist(), devices, topology)
        == CHIPS["v5e"].network
    )
    assert (
        group_bandwidth(np.arange(32).reshape(2, 16).tolist(), devices, topology)
        == 2 * CHIPS["v5e"].link
    )


def test_seconds_of_collectives():
    assert (
        collective_seconds("all-gather", 800.0, 8, 100.0)
        == collective_seconds("reduce-scatter", 800.0, 8, 100.0)
        == 7.0
    )
    assert (
        collective_seconds("all-reduce", 800.0, 8, 100.0) == 14.0
        and collective_seconds("all-reduce", 800.0, 1, 100.0) == 0.0
    )
    assert collective_seconds("collective-permute", 800.0, 2, 100.0) == 8.0


def test_best_likely_and_serial():
    topology = parse_topology("v5e:2x2")
    chip, groups = topology.chip, ((0, 1, 2, 3),)
    moved = Collective("all-gather", ("data",), 4, chip.link, 2.0, "forward", True, groups, "")
    summed = Collective("all-reduce", ("data",), 4, chip.link, 1.0, "backward", False, groups, "")
    kernel = Kernel("splash", KERNEL_EFFICIENCY * chip.peak, 2.0, "forward")
    costs = Costs(
        {"forward": 1.0},
        {"forward": 3 * chip.clock},
        chip.hbm_bandwidth,
        (moved, summed),
        (kernel,),
        (),
    )
    found = estimate(costs, topology, torus(topology))
    links = 2  # of both dimensions, neither of which closes
    assert (
        found.compute == 5
        and found.memory == 1
        and found.asynchronous == pytest.approx(2 * 0.75 / links)
    )
    assert found.synchronous == pytest.approx(2 * 0.75 / links)
    assert (
        found.best == 5
        and found.likely == pytest.approx(5.75)
        and found.serial == pytest.approx(6.5)
        and found.bound_by == "compute"
    )
    assert found.mfu(chip.peak, chip)["likely"] == pytest.approx(1 / 5.75)


def test_the_formula_for_the_transformer_is_its_products_without_what_masks_hide():
    """Dense attention computes all pairs: counted from the traced loss with every pair seen, the
    formula is what is left.
    """
    experiment = build_experiment(
        tiny_config(generator__attention="dense", generator__caption_every=2)
    )
    program, generator = Program(experiment, jax.devices()[:1]), experiment.model
    b, m, n = experiment.training.batch_size, experiment.data.text.length, 64
    batch = {
        "text": jax.ShapeDtypeStruct((b, m), jnp.int32),
        "codes": jax.ShapeDtypeStruct((b, 8, 8), jnp.int32),
    }
    traced = 3 * traced_flops(
        lambda p, x: generator.loss(p, x, jax.random.key(0), jnp.int32(0)),
        unbox(program.boxed),
        batch,
    )
    both = m * m + n * n + 2 * m * n
    seen = {
        "text_to_image": m * m + n * (n + 1) / 2 + m * n,
        "image_to_text": n * n + m * (m + 1) / 2 + m * n,
    }
    assert traced == pytest.approx(
        program.model_flops + hidden(generator, b, both, seen), rel=0.02
    )  # tables from code vectors are not counted


def hidden(generator, b, both, seen):
    rows = {"text_to_image": b, "image_to_text": b // generator.caption_every}
    return sum(
        12.0 * generator.width * generator.layers * rows[d] * (both - pairs)
        for d, pairs in seen.items()
    )


def test_any_other_model_is_three_times_its_traced_loss():
    program = Program(build_experiment(tiny_diffusion()), jax.devices()[:1])
    one, two = (
        program.model_flops,
        Program(
            build_experiment(tiny_diffusion(training__batch_size=32)), jax.devices()[:1]
        ).model_flops,
    )
    assert 1.9 < two / one < 2.1 and one > 6 * 16 * 64 * program.parameters * 0.1
    weights, x = (
        jax.ShapeDtypeStruct((3, 8, 8), jnp.float32),
        jax.ShapeDtypeStruct((2, 8), jnp.float32),
    )
    assert (
        traced_flops(lambda w, x: jax.lax.scan(lambda y, m: (y @ m, None), x, w)[0], weights, x)
        == 3 * 2 * 2 * 8 * 8
    )
