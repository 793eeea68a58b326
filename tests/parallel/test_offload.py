"""The optimizer's state in the host's memory: the same numbers, kept and restored there."""

import jax
import numpy as np

from tests.conftest import tiny_config
from tests.contracts.test_layouts_agree import batch_of
from vilg.experiment import build_experiment
from vilg.parallel.layouts import parse_layout
from vilg.program import Program
from vilg.training.checkpoint import Checkpoints, digest


def kinds(tree) -> set[str]:
    """Where arrays (not scalars) are."""
    return {x.sharding.memory_kind for x in jax.tree.leaves(tree) if x.ndim}


def test_an_update_is_the_same_and_its_state_comes_back_to_the_host(tmp_path):
    experiment = build_experiment(
        tiny_config(optimizer__kind="adamw", training__accumulation=2, generator__layers=1)
    )
    states = {}
    for name in ("fsdp", "fsdp:offload=1"):
        program = Program(experiment, layout=parse_layout(name))
        batch = {
            k: jax.device_put(v, program.batch_sharding) for k, v in batch_of(experiment).items()
        }
        state = program.init_state()
        for _ in range(2):
            state, _ = program.train_step(state, batch, None)
        states[name] = state
    plain, offloaded = states.values()
    assert kinds(offloaded.optimizer) == {"pinned_host"} and kinds(plain.optimizer) == kinds(
        offloaded.params
    ) == {"device"}
    assert [x.sharding.spec for x in jax.tree.leaves(plain)] == [
        x.sharding.spec for x in jax.tree.leaves(offloaded)
    ]
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(offloaded), strict=True):
        np.testing.assert_array_equal(a, b)

    checkpoints = Checkpoints(tmp_path, digest=program.jit(digest))
    checkpoints.save(2, offloaded, {})
    checkpoints.close()
    state, _ = Checkpoints(tmp_path, read_only=True).restore(program.abstract_state)
    assert kinds(state.optimizer) == {"pinned_host"} and kinds(state.params) == {"device"}
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(offloaded), strict=True):
        np.testing.assert_array_equal(a, b)
