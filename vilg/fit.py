"""Whether an experiment fits a number of devices under a layout, determined from its shapes, before
a device is used.

The file is separate from Program, which checks the devices that it runs on, because `vilg launch`
checks chips of other machines."""

import math
from collections.abc import Sequence

import jax
from jax.sharding import PartitionSpec

from vilg.config import require
from vilg.experiment import Experiment
from vilg.parallel.axes import axis_lengths, is_box
from vilg.parallel.layout import Layout
from vilg.types import UserError

# A layout that shards parameters may leave this share of a big model's parameters replicated.
REPLICATED_LIMIT = 0.05
BIG_MODEL = 10_000_000  # number of parameters above which the limit applies


def path_name(path: Sequence[object]) -> str:
    """A pytree path as a/b/c."""
    return jax.tree_util.keystr(tuple(path), simple=True, separator="/")


class Fit:
    """The layout of an experiment on a number of devices, with all its sizes.

    `boxed` holds the abstract parameters, `sizes` the size of each mesh axis, `batch_shards` the
    number of shards of a batch, and `sharded_fraction` the share of the parameters that is sharded.

    Errors: UserError for a mesh of another number of devices, for parameters or a batch that the
    mesh does not divide, and for a layout that leaves too much of a big model replicated."""

    def __init__(self, experiment: Experiment, devices: int, layout: Layout | None = None):
        self.boxed = jax.eval_shape(experiment.trainable.init, jax.random.key(0))
        self.lengths = axis_lengths(self.boxed)
        self.layout = (layout or experiment.layout).bound(self.lengths, devices)
        self.sizes = self.layout.sizes(devices)
        self._check_parameters(devices)
        self.batch_spec = self.layout.spec("compute", ("batch",), (0,), self.sizes)
        self.batch_shards = math.prod(self.sizes[a] for a in _names(self.batch_spec))
        self._check_batch(experiment)

    def _check_parameters(self, devices: int) -> None:
        flat = jax.tree_util.tree_flatten_with_path(self.boxed, is_leaf=is_box)[0]
        shapes = {path_name(path): (tuple(b.names), b.value.shape) for path, b in flat}
        self.layout.check(shapes, devices)
        self.parameters = sum(math.prod(shape) for _, shape in shapes.values())
        replicated = {
            name: math.prod(shape)
            for name, (axes, shape) in shapes.items()
            if not self.layout.spec("params", axes, shape, self.sizes)
        }
        self.sharded_fraction = (
            1 - sum(replicated.values()) / self.parameters if self.parameters else 0.0
        )
        if (
            self.layout.params
            and devices > 1
            and self.parameters > BIG_MODEL
            and 1 - self.sharded_fraction > REPLICATED_LIMIT
        ):
            largest = sorted(replicated, key=lambda name: replicated[name], reverse=True)[:5]
            raise UserError(
                f"layout.name={self.layout.name!r} leaves {1 - self.sharded_fraction:.0%} of the"
                f" parameters whole on every device ({', '.join(largest)}); choose mesh sizes that"
                " divide them, or another layout"
            )

    def _check_batch(self, experiment: Experiment) -> None:
        model = experiment.model
        size, accumulation = experiment.training.batch_size, experiment.training.accumulation
        multiple = model.batch_multiple
        together = (
            f" x {multiple} rows that belong together ({model.batch_field})" if multiple > 1 else ""
        )
        unit = self._rows_together(multiple) * accumulation
        require(
            size % unit == 0,
            "training.batch_size",
            size,
            f"must be a multiple of training.accumulation={accumulation} x {self.batch_shards}"
            f" batch shards of layout {self.layout.name!r}{together}; the nearest is"
            f" {max(1, round(size / unit)) * unit}",
        )

    def _rows_together(self, multiple: int) -> int:
        """The number of rows of which a microbatch must be a multiple. Rows that belong together
        stay on one device, except that the rows of an expert are split over the devices of its
        group."""
        groups: PartitionSpec | tuple[()] = ()
        if "expert" in self.lengths:
            groups = self.layout.spec("compute", ("expert",), (0,), self.sizes)
        return multiple * (self.batch_shards // math.prod(self.sizes[a] for a in _names(groups)))


def _names(spec: PartitionSpec | tuple[()]) -> tuple[str, ...]:
    """The mesh axes of a PartitionSpec."""
    return tuple(a for s in spec if s is not None for a in (s if isinstance(s, tuple) else (s,)))
