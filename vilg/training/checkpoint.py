"""Checkpoints of a run. Orbax writes and reads the arrays, asynchronously and on any mesh; this
module verifies what Orbax restores.

Orbax restores flipped bits, other dtypes and misplaced steps without an error. So a checkpoint also
holds the shape, the dtype and a digest of every array. Where the newest step fails this check, the
step before is restored; a run that trains on renames the failed step, so that nothing is deleted.
"""

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy as keep

from vilg.parallel.processes import is_main_process
from vilg.paths import as_path, is_remote
from vilg.types import UserError

FORMAT = 1
# Replicas share the writing of an array where each replica's slice has at least so many bytes; for
# smaller arrays, slicing and gathering cost more than the sharing saves.
SLICED = 2**20
log = logging.getLogger("vilg")


def digest(tree: Any) -> dict[str, jax.Array]:
    """A uint32 for every array: the sum, modulo 2**32, of the array's words, each word times an odd
    number that depends on the word's index.

    The sum is exact and associative, so a digest is the same on every mesh, and a change of any
    single word changes the digest. The function can be traced.
    """
    return {name: _digest(x) for name, x in named_leaves(tree).items()}


def _digest(x: jax.Array) -> jax.Array:
    x = jax.device_put(x, jax.memory.Space.Device)  # an offloaded array is in the host's memory
    if x.dtype == jnp.bool_:
        x = x.astype(jnp.uint8)
    word = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[x.dtype.itemsize]
    words = jax.lax.bitcast_convert_type(x, word).astype(jnp.uint32)
    place = jnp.uint32(0)
    for dimension in range(x.ndim):
        place = place * jnp.uint32(x.shape[dimension]) + jax.lax.broadcasted_iota(
            jnp.uint32, x.shape, dimension
        )
    return jnp.sum(words * (place * jnp.uint32(2654435769 & ~1) + jnp.uint32(1)), dtype=jnp.uint32)


def named_leaves(tree: Any) -> dict[str, Any]:
    """The leaves of a state by their path, such as "params/encoder/kernel"."""
    flat = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in flat}


def first_misfit(
    saved: Mapping[str, object], wanted: Mapping[str, object]
) -> tuple[str, object, object] | None:
    """The first array whose descriptions differ, as (name, saved, wanted), or None where none
    differs. The description of an array that is missing on one side is "absent".
    """
    for name in (*wanted, *saved):
        if wanted.get(name) != saved.get(name):
            return name, saved.get(name, "absent"), wanted.get(name, "absent")
    return None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Within this context Orbax does not warn that a manager is read-only, or that a handler
    replaces the default one.
    """
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


with quiet():
    ocp.type_handlers.register_type_handler(
        jax.Array,
        ocp.type_handlers.ArrayHandler(min_slice_bytes_for_replica_parallel=SLICED),
        override=True,
    )


class Checkpoints:
    """The checkpoints of one workdir: the last `keep_last`, and the `keep_best` with the lowest
    validation loss.

    A `read_only` object changes nothing in the directory, so that it can be used while the run
    that owns the directory saves.
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        keep_last: int = 2,
        keep_best: int = 0,
        digest: Any = digest,
        read_only: bool = False,
    ):
        self.directory = (
            as_path(directory) if is_remote(directory) else as_path(os.path.abspath(directory))
        )
        self.digest = digest
        self.read_only = read_only
        policies: list[Any] = [keep.LatestN(keep_last)]
        if keep_best:
            policies.append(
                keep.BestN(
                    get_metric_fn=lambda m: -m["loss"],
                    n=keep_best,
                    keep_checkpoints_without_metrics=False,
                )
            )
        kept: dict[str, Any] = dict(
            preservation_policy=keep.AnyPreservationPolicy(policies), cleanup_tmp_directories=True
        )
        with quiet() if read_only else contextlib.nullcontext():
            options = (
                ocp.CheckpointManagerOptions(read_only=True)
                if read_only
                else ocp.CheckpointManagerOptions(**kept)
            )
            self.manager = ocp.CheckpointManager(self.directory, options=options)

    def save(
        self, step: int, state: Any, data: dict, metrics: dict[str, float] | None = None
    ) -> None:
        """Starts to save, and returns before the arrays are written. `data` is the state of the
        loader; the checkpoints of lowest `metrics["loss"]` are kept as the best.
        """
        if step in self.manager.all_steps():
            return
        digests = {k: int(v) for k, v in jax.device_get(self.digest(state)).items()}
        arrays = {
            k: [list(x.shape), str(x.dtype), digests[k]] for k, x in named_leaves(state).items()
        }
        saved = self.manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                meta=ocp.args.JsonSave({"format": FORMAT, "arrays": arrays, "data": data}),
            ),
            metrics=metrics,
        )
        if not saved:
            raise RuntimeError(
                f"checkpoint {step} was not saved: {self.directory} already holds step"
                f" {self.manager.latest_step()}"
            )

    def steps(self) -> list[int]:
        """The steps that are saved, oldest first."""
        return sorted(self.manager.all_steps())

    def restore(self, abstract: Any, step: int | None = None) -> tuple[Any, dict] | None:
        """The (state, data) of the newest step that passes the check, or of `step`. The arrays are
        placed by the shardings of `abstract`, a state of shapes.

        The result is None if there is no checkpoint. Errors: UserError if every checkpoint fails
        the check, or if a checkpoint belongs to another model.
        """
        candidates = [s for s in reversed(self.steps()) if step is None or s == step]
        problems: dict[int, str] = {}
        for candidate in candidates:
            try:
                restored = self._restore(candidate, abstract)
            except UserError:
                raise
            except Exception as error:
                problems[candidate] = str(error).strip().split("\n")[0][:200]
                continue
            self._set_aside(problems)
            return restored
        if problems:
            found = "; ".join(f"step {s}: {reason}" for s, reason in problems.items())
            raise UserError(
                f"{self.directory}: no readable checkpoint ({found}); restore a copy, or train into"
                " another workdir"
            )
        return None

    def _set_aside(self, problems: Mapping[int, str]) -> None:
        """Renames the steps that failed their check, so that the run can save these steps again.
        This is called only after an older step was restored, and a reader renames nothing.
        """
        for step, reason in problems.items():
            aside = self.directory.parent / f"{self.directory.name}.unreadable.{step}"
            log.warning(
                "checkpoint %s cannot be read (%s)%s",
                step,
                reason,
                "" if self.read_only else f"; set aside as {aside}",
            )
            if not self.read_only and is_main_process() and not aside.exists():
                (self.directory / str(step)).rename(aside)
        if problems and not self.read_only:
            self.manager.reload()

    def _restore(self, step: int, abstract: Any) -> tuple[Any, dict]:
        meta = self.manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))[
            "meta"
        ]
        wanted = {k: [list(x.shape), str(x.dtype)] for k, x in named_leaves(abstract).items()}
        saved = {k: v[:2] for k, v in meta["arrays"].items()}
        misfit = first_misfit(saved, wanted)
        if misfit:
            name, there, here = misfit
            raise UserError(
                f"checkpoint {self.directory}/{step}: {name} is {there} there and {here} in this"
                " experiment; use the config of the run that wrote it"
            )
        state = self.manager.restore(
            step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
        )["state"]
        for name, value in jax.device_get(self.digest(state)).items():
            if int(value) != meta["arrays"][name][2]:
                raise ValueError(f"{name} differs from its digest")
        return state, meta["data"]

    def close(self) -> None:
        """Waits until every save is written. Errors: the exception of a save that failed."""
        self.manager.wait_until_finished()
        self.manager.close()
