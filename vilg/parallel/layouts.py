"""The table of layouts. Mesh-axis names occur only here and in experiments. To add a layout, add a
function and a line.

data: the batch is split. model: heads, feed-forward and vocabulary are split. sequence: the
positions of each row are split. replica / shard: ERNIE-ViLG's figure 3, copies across groups (the
slow link, so it comes first; on several slices it is the data-centre network), shards inside a
group. expert: groups that own denoising experts. Convolutions have no `embed`: their channels take
its place.

Every layout takes `offload=1`: the optimizer's state lives in the host's memory and visits the
device once an update."""

import dataclasses
import inspect
import re
from collections.abc import Callable

from vilg.parallel.layout import Layout
from vilg.types import UserError


def _sharded(*axes: str) -> dict[str, str | tuple[str, ...]]:
    return dict.fromkeys(("embed", "channels_out|channels_in"), axes if len(axes) > 1 else axes[0])


_TENSOR = {"heads": "model", "mlp": "model", "vocab": "model"}


def dp(data: int = -1) -> Layout:
    """Everything replicated, the batch split."""
    return Layout("dp", {"data": data}, {}, {}, {}, {"batch": "data"})


def zero1(data: int = -1) -> Layout:
    """Optimizer state sharded over the batch axis."""
    return Layout("zero1", {"data": data}, {}, {}, _sharded("data"), {"batch": "data"})


def zero2(data: int = -1) -> Layout:
    """Gradients and optimizer state sharded."""
    return Layout(
        "zero2", {"data": data}, {}, _sharded("data"), _sharded("data"), {"batch": "data"}
    )


def fsdp(data: int = -1) -> Layout:
    """Weights, gradients and optimizer state sharded."""
    rules = _sharded("data")
    return Layout("fsdp", {"data": data}, rules, rules, rules, {"batch": "data"})


def tp(model: int = -1) -> Layout:
    """Heads, feed-forward and vocabulary split (Megatron), the batch replicated; convolutions split
    by channel.
    """
    rules = {**_TENSOR, "channels_out|channels_in": "model"}
    return Layout("tp", {"model": model}, rules, rules, rules, dict(_TENSOR))


def fsdp_tp(data: int = -1, model: int = 2) -> Layout:
    """fsdp over data, tp over model."""
    rules = {**_sharded("data"), **_TENSOR}
    return Layout(
        "fsdp_tp", {"data": data, "model": model}, rules, rules, rules, {"batch": "data", **_TENSOR}
    )


def sequence(data: int = -1, sequence: int = 2) -> Layout:
    """The positions of a row (rows of a picture) split too, weights sharded over all devices.
    Attention needs whole rows: there, heads are split instead, by an all-to-all before and after it
    (DeepSpeed-Ulysses, arXiv 2309.14509). What no alternative divides stays whole."""
    rules = _sharded("data", "sequence")
    compute = {"batch": "data", "length|rows|heads": "sequence"}
    return Layout("sequence", {"data": data, "sequence": sequence}, rules, rules, rules, compute)


def expert(expert: int = 0, data: int = -1) -> Layout:
    """Timestep experts spread over groups of devices, fsdp inside a group; without experts it is
    fsdp. expert=0: as many groups as divide both the experts and the devices."""
    rules = {"expert": "expert", **_sharded("data")}
    return Layout(
        "expert",
        {"expert": expert or "expert", "data": data},
        rules,
        rules,
        rules,
        {"batch": ("expert", "data"), "expert": "expert"},
    )


def group_sharded(replica: int = -1, shard: int = 4, stage: int = 3) -> Layout:
    """ERNIE-ViLG's figure 3: shard inside a group, replicate across groups; `stage` is the ZeRO
    stage (1, 2 or 3).
    """
    if stage not in (1, 2, 3):
        raise UserError(f"layout group_sharded: stage={stage!r} must be 1, 2 or 3")
    rules = _sharded("shard")
    return Layout(
        "group_sharded",
        {"replica": replica, "shard": shard},
        rules if stage == 3 else {},
        rules if stage >= 2 else {},
        rules,
        {"batch": ("replica", "shard")},
    )


def hybrid_fsdp(replica: int = 2, data: int = -1) -> Layout:
    """fsdp inside a slice, copies across slices: only gradients cross the data-centre network."""
    rules = _sharded("data")
    return Layout(
        "hybrid_fsdp",
        {"replica": replica, "data": data},
        rules,
        rules,
        rules,
        {"batch": ("replica", "data")},
    )


def hybrid_fsdp_tp(replica: int = 2, data: int = -1, model: int = 2) -> Layout:
    """fsdp_tp inside a slice, copies across slices."""
    rules = {**_sharded("data"), **_TENSOR}
    compute = {"batch": ("replica", "data"), **_TENSOR}
    return Layout(
        "hybrid_fsdp_tp",
        {"replica": replica, "data": data, "model": model},
        rules,
        rules,
        rules,
        compute,
    )


LAYOUTS: dict[str, Callable[..., Layout]] = {
    "dp": dp,
    "zero1": zero1,
    "zero2": zero2,
    "fsdp": fsdp,
    "tp": tp,
    "fsdp_tp": fsdp_tp,
    "sequence": sequence,
    "expert": expert,
    "group_sharded": group_sharded,
    "hybrid_fsdp": hybrid_fsdp,
    "hybrid_fsdp_tp": hybrid_fsdp_tp,
}


def parse_layouts(text: str) -> dict[str, Layout]:
    """The layouts of names joined by commas, or of "all", by what was written."""
    return {name: parse_layout(name) for name in (LAYOUTS if text == "all" else text.split(","))}


def parse_layout(text: str) -> Layout:
    """The layout of "name" or "name:axis=size:axis=size", such as "fsdp_tp:model=4" or
    "fsdp:offload=1".
    """
    name, *options = str(text).split(":")
    if name not in LAYOUTS:
        raise UserError(f"layout.name={text!r}: known layouts are {', '.join(LAYOUTS)}")
    known = (*inspect.signature(LAYOUTS[name]).parameters, "offload")
    sizes = {}
    for option in options:
        axis, _, size = option.partition("=")
        if axis not in known or not re.fullmatch("-?[0-9]+", size):
            raise UserError(
                f"layout.name={text!r}: {option!r} is not axis=whole number with axis one of"
                f" {', '.join(known)}"
            )
        sizes[axis] = int(size)
    offload = sizes.pop("offload", 0)
    if offload not in (0, 1):
        raise UserError(f"layout.name={text!r}: offload={offload} must be 0 or 1")
    return dataclasses.replace(LAYOUTS[name](**sizes), offload=bool(offload))
