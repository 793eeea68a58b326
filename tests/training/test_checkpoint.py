"""Checkpoints: what Orbax does silently is said or mended here."""

import json
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from vilg.parallel.layouts import parse_layout
from vilg.parallel.mesh import make_mesh
from vilg.training.checkpoint import Checkpoints, digest
from vilg.types import UserError


def state(step: int) -> dict:
    w = jax.random.normal(jax.random.key(step), (8, 4))
    return {
        "params": {"w": w, "b": jnp.arange(4.0) + step},
        "step": jnp.int32(step),
        "half": w.astype(jnp.bfloat16),
    }


def abstract(like: dict, sharding=None) -> dict:
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding or x.sharding), like
    )


def save(path, steps=(1, 2, 3), **options) -> None:
    checkpoints = Checkpoints(path, digest=jax.jit(digest), **options)
    for s in steps:
        checkpoints.save(s, state(s), {"step": s})
    checkpoints.close()


def saved(path, steps=(1, 2, 3), **options) -> Checkpoints:
    save(path, steps, **options)
    return Checkpoints(path, digest=jax.jit(digest), **options)


def test_a_restore_is_bitwise_and_brings_the_data_position(tmp_path):
    restored, data = saved(tmp_path / "c").restore(abstract(state(3)))
    assert data == {"step": 3}
    jax.tree.map(np.testing.assert_array_equal, restored, state(3))


def test_the_last_and_the_best_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path / "c", keep_last=2, keep_best=1)
    for s, loss in ((1, 5.0), (2, 1.0), (3, 3.0), (4, 4.0), (5, 4.5)):
        checkpoints.save(s, state(s), {}, {"loss": loss})
    checkpoints.close()
    assert Checkpoints(tmp_path / "c", keep_last=2, keep_best=1).steps() == [2, 4, 5]


def test_the_digest_is_the_same_on_every_mesh_and_moves_with_every_bit():
    x = state(1)
    plain = {k: int(v) for k, v in digest(x).items()}
    mesh = make_mesh(parse_layout("fsdp"))
    sharded = jax.device_put(x["params"]["w"], NamedSharding(mesh, PartitionSpec("data")))
    assert int(jax.jit(digest)({"w": sharded})["w"]) == plain["params/w"]
    w = np.asarray(x["params"]["w"]).copy()
    for flip in (0, 77, 8 * 4 * 32 - 1):
        words = w.view(np.uint32).ravel().copy()
        words[flip // 32] ^= np.uint32(1 << (flip % 32))
        assert (
            int(digest({"w": jnp.asarray(words.view(np.float32).reshape(8, 4))})["w"])
            != plain["params/w"]
        )
    assert int(digest({"w": jnp.asarray(w[::-1].copy())})["w"]) != plain["params/w"]


def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_is_used(tmp_path):
    saved(tmp_path / "c").manager.close()
    damage(tmp_path / "c" / "3")
    restored, position = Checkpoints(tmp_path / "c", digest=jax.jit(digest)).restore(
        abstract(state(2))
    )
    assert position == {"step": 2} and int(restored["step"]) == 2
    assert (tmp_path / "c.unreadable.3").exists()


def damage(step):
    biggest = max(
        (p for p in (step / "state").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size
    )
    data = bytearray(biggest.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 64] = bytes(64)
    biggest.write_bytes(bytes(data))


def files(directory):
    return sorted(str(p.relative_to(directory)) for p in directory.rglob("*"))


def test_a_reader_changes_nothing(tmp_path):
    """A run may be saving there: what looks like a rest of a save is one under way."""
    save(tmp_path / "c")  # a manager that has only been opened may still be removing such rests
    damage(tmp_path / "c" / "3")
    (tmp_path / "c" / "4.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
    before = files(tmp_path)
    reader = Checkpoints(tmp_path / "c", digest=jax.jit(digest), read_only=True)
    assert reader.restore(abstract(state(2)))[1] == {"step": 2}
    reader.close()
    assert files(tmp_path) == before


def test_when_no_step_is_readable_all_stay_so_that_the_run_does_not_begin_again(tmp_path):
    saved(tmp_path / "c", steps=(1,)).manager.close()
    damage(tmp_path / "c" / "1")
    for _ in range(2):
        with pytest.raises(UserError, match="no readable checkpoint"):
            Checkpoints(tmp_path / "c", digest=jax.jit(digest)).restore(abstract(state(1)))
    assert (tmp_path / "c" / "1").exists()


def test_an_empty_directory_is_not_a_checkpoint(tmp_path):
    saved(tmp_path / "c").manager.close()
    os.mkdir(tmp_path / "c" / "7")
    _, position = Checkpoints(tmp_path / "c", digest=jax.jit(digest)).restore(abstract(state(3)))
    assert position == {"step": 3}


def test_a_run_can_save_again_past_a_damaged_step(tmp_path):
    saved(tmp_path / "c").manager.close()
    shutil.rmtree(tmp_path / "c" / "3" / "state")
    checkpoints = Checkpoints(tmp_path / "c", digest=jax.jit(digest))
    _, position = checkpoints.restore(abstract(state(2)))
    assert position == {"step": 2}
    checkpoints.save(3, state(3), {"step": 3})
    checkpoints.close()
    assert Checkpoints(tmp_path / "c", digest=jax.jit(digest)).restore(abstract(state(3)))[1] == {
        "step": 3
    }


def test_another_model_is_refused_by_the_parameters_name(tmp_path):
    checkpoints = saved(tmp_path / "c")
    wider = state(3)
    wider["params"]["w"] = jnp.zeros((8, 5))
    with pytest.raises(UserError, match=r"params/w is \[\[8, 4\], 'float32'\] there"):
        checkpoints.restore(abstract(wider))
    other = state(3)
    other["step"] = jnp.float32(3)
    with pytest.raises(UserError, match="step is"):
        checkpoints.restore(abstract(other))


def test_no_checkpoint_is_none_and_none_readable_is_an_error(tmp_path):
    assert Checkpoints(tmp_path / "c").restore(abstract(state(1))) is None
    checkpoints = saved(tmp_path / "d", steps=(1,))
    (tmp_path / "d" / "1" / "meta" / "metadata").write_text(json.dumps({}))
    shutil.rmtree(tmp_path / "d" / "1" / "state")
    with pytest.raises(UserError, match="no readable checkpoint"):
        checkpoints.restore(abstract(state(1)))


def test_a_restore_lands_on_another_mesh(tmp_path):
    checkpoints = saved(tmp_path / "c")
    mesh = make_mesh(parse_layout("fsdp"))
    wanted = abstract(state(3), NamedSharding(mesh, PartitionSpec()))
    wanted["params"]["w"] = jax.ShapeDtypeStruct(
        (8, 4), jnp.float32, sharding=NamedSharding(mesh, PartitionSpec("data"))
    )
    restored, _ = checkpoints.restore(wanted)
    assert restored["params"]["w"].sharding.spec == PartitionSpec("data")
    np.testing.assert_array_equal(restored["params"]["w"], state(3)["params"]["w"])
