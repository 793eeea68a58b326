"""The endless iterator over batches, which resumes at any step.

Batches are made ahead by a thread of this process or by worker processes, through Grain."""

import dataclasses
import multiprocessing
import os
import threading
from typing import Any

import grain
import numpy as np
from absl import flags

from vilg.data.assembly import Assembly, note_bad
from vilg.data.sources import fingerprint
from vilg.types import UserError

STEPS = 2**40


class Stream:
    """This process's rows of the global batches. Its position is one number, `step`: how many
    batches were taken.
    """

    def __init__(self, assembly: Assembly, process_count: int, workers: int, prefetch: int):
        self.assembly, self.process_count = assembly, process_count
        self.workers, self.prefetch = workers, prefetch
        self.step = 0
        self.bad: dict[str, str] = {}  # id -> reason, of every bad record met
        self._batches: grain.DatasetIterator | None = None

    def __iter__(self) -> "Stream":
        return self

    def __next__(self) -> dict[str, Any]:
        if self._batches is None:
            self._batches = self._open()
        batch = next(self._batches)
        # copied, because Grain's shared memory complains when it outlives the interpreter's modules
        if self.workers:
            batch = {
                name: np.array(value) if isinstance(value, np.ndarray) else value
                for name, value in batch.items()
            }
        note_bad(self.bad, batch, self.assembly.bad_record_limit)
        self.step += 1
        return batch

    def _open(self) -> grain.DatasetIterator:
        """Starts making batches from this position."""
        steps = grain.MapDataset.range(self.step, STEPS).map(self.assembly)
        if not self.workers:
            ahead = grain.ReadOptions(num_threads=1, prefetch_buffer_size=self.prefetch)
            return iter(steps.to_iter_dataset(ahead))
        # Grain reads absl's flags when it starts worker processes; only absl's own main parses them
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()
        eager = steps.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=1))
        workers = grain.MultiprocessingOptions(
            num_workers=self.workers, per_worker_buffer_size=self.prefetch
        )
        return iter(eager.mp_prefetch(workers, end_with_parent))

    def close(self) -> None:
        """Stops making batches ahead. The next batch that is asked for is still the right one."""
        if self._batches is not None:
            self._batches.close()
        self._batches = None

    def identity(self) -> dict[str, object]:
        """Everything that the order and the content of the batches depend on.

        A checkpoint with another identity is refused."""
        assembly, settings = self.assembly, self.assembly.settings
        sizes, knowledge = settings.sizes, settings.knowledge
        identity: dict[str, object] = {
            "source": fingerprint(assembly.source),
            "records": len(assembly.source),
            "seed": settings.seed,
            "shuffle": assembly.shuffle,
            "batch_size": assembly.batch_size,
            "languages": list(settings.languages),
            "random_crop": settings.random_crop,
            "image_size": sizes.image_size,
            "text_length": sizes.text_length,
            "text_model": settings.text_model.sha256 if settings.text_model else None,
        }
        if knowledge is not None:
            identity["knowledge"] = dataclasses.asdict(knowledge)
            identity["grid"] = sizes.grid and list(sizes.grid)
        if assembly.shuffle_captions:
            identity["shuffle_captions"] = True
        return identity

    def get_state(self) -> dict[str, object]:
        """The position and the identity, as JSON."""
        return {
            "step": self.step,
            "process_count": self.process_count,
            "bad": dict(self.bad),
            **self.identity(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes to a position that `get_state` gave.

        The number of processes may differ: the global order does not depend on it. Errors:
        UserError that names the first part of the identity that differs from this stream's."""
        identity = self.identity()
        for name in dict.fromkeys((*identity, "knowledge", "grid")):
            here = identity.get(name)
            if state.get(name) != here:
                raise UserError(
                    f"data {name}={here!r}: the checkpoint was written with {state.get(name)!r}; "
                    "continue with that, or start a new workdir"
                )
        self.close()
        self.step, self.bad = int(state["step"]), dict(state["bad"])


def end_with_parent(worker: int, workers: int) -> None:
    """Makes a worker process end when its parent ends, also where the parent was killed; Grain's
    own workers would wait for ever.
    """
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
