"""The table of layouts. Mesh-axis names occur only here and in experiments. To add a layout, add a function and a line.

data: the batch is split. model: heads, feed-forward and vocabulary are split. replica / shard: ERNIE-ViLG's figure 3, copies across
groups (the slow link, so it comes first), shards inside a group. expert: groups that own denoising experts. Convolutions have no `embed`:
their channels take its place.
"""

import inspect
import re
from collections.abc import Callable

from vilg.parallel.layout import Layout
from vilg.types import UserError


def _sharded(axis: str) -> dict[str, str]:
    return {"embed": axis, "channels_out|channels_in": axis}


_TENSOR = {"heads": "model", "mlp": "model", "vocab": "model"}


def dp(data: int = -1) -> Layout:
    """Everything replicated, the batch split."""
    return Layout("dp", {"data": data}, {}, {}, {}, {"batch": "data"})


def zero1(data: int = -1) -> Layout:
    """Optimizer state sharded over the batch axis."""
    return Layout("zero1", {"data": data}, {}, {}, _sharded("data"), {"batch": "data"})


def zero2(data: int = -1) -> Layout:
    """Gradients and optimizer state sharded."""
    return Layout("zero2", {"data": data}, {}, _sharded("data"), _sharded("data"), {"batch": "data"})


def fsdp(data: int = -1) -> Layout:
    """Weights, gradients and optimizer state sharded."""
    rules = _sharded("data")
    return Layout("fsdp", {"data": data}, rules, rules, rules, {"batch": "data"})


def tp(model: int = -1) -> Layout:
    """Heads, feed-forward and vocabulary split (Megatron), the batch replicated; convolutions split by channel."""
    rules = {**_TENSOR, "channels_out|channels_in": "model"}
    return Layout("tp", {"model": model}, rules, rules, rules, dict(_TENSOR))


def fsdp_tp(data: int = -1, model: int = 2) -> Layout:
    """fsdp over data, tp over model."""
    rules = {**_sharded("data"), **_TENSOR}
    return Layout("fsdp_tp", {"data": data, "model": model}, rules, rules, rules, {"batch": "data", **_TENSOR})


def expert(expert: int = 0, data: int = -1) -> Layout:
    """Timestep experts spread over groups of devices, fsdp inside a group; without experts it is fsdp. expert=0: as many groups as divide
    both the experts and the devices."""
    rules = {"expert": "expert", **_sharded("data")}
    return Layout("expert", {"expert": expert or "expert", "data": data}, rules, rules, rules, {"batch": ("expert", "data"), "expert": "expert"})


def group_sharded(replica: int = -1, shard: int = 4, stage: int = 3) -> Layout:
    """ERNIE-ViLG's figure 3: shard inside a group, replicate across groups; `stage` is the ZeRO stage (1, 2 or 3)."""
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


LAYOUTS: dict[str, Callable[..., Layout]] = {
    "dp": dp,
    "zero1": zero1,
    "zero2": zero2,
    "fsdp": fsdp,
    "tp": tp,
    "fsdp_tp": fsdp_tp,
    "expert": expert,
    "group_sharded": group_sharded,
}


def parse_layouts(text: str) -> dict[str, Layout]:
    """The layouts of names joined by commas, or of "all", by what was written."""
    return {name: parse_layout(name) for name in (LAYOUTS if text == "all" else text.split(","))}


def parse_layout(text: str) -> Layout:
    """The layout of "name" or "name:axis=size:axis=size", such as "fsdp_tp:model=4"."""
    name, *options = str(text).split(":")
    if name not in LAYOUTS:
        raise UserError(f"layout.name={text!r}: known layouts are {', '.join(LAYOUTS)}")
    known = inspect.signature(LAYOUTS[name]).parameters
    sizes = {}
    for option in options:
        axis, _, size = option.partition("=")
        if axis not in known or not re.fullmatch("-?[0-9]+", size):
            raise UserError(f"layout.name={text!r}: {option!r} is not axis=whole number with axis one of {', '.join(known)}")
        sizes[axis] = int(size)
    return LAYOUTS[name](**sizes)
