"""The table of layouts. Names of mesh axes occur only in this file and in experiments. To add a
layout, write a function here and a line in LAYOUTS.

Mesh axes: `data` splits the batch; `model` splits heads, the feed-forward and the vocabulary;
`sequence` splits the positions of each row; `replica` and `shard` are those of ERNIE-ViLG's figure
3: copies across groups of devices (the slow link, so `replica` comes first; with several slices it
is the data-centre network) and shards inside a group; `expert` splits the denoising experts over
groups. Convolutions have no logical axis `embed`; their channels take its place.

Every layout also takes the option `offload=1`: the optimizer's state lives in the host's memory and
visits the device once an update."""

import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping

from vilg.parallel.layout import Layout, Rules
from vilg.types import UserError


def _sharded(*mesh_axes: str) -> Rules:
    axes = mesh_axes[0] if len(mesh_axes) == 1 else mesh_axes
    return dict.fromkeys(("embed", "channels_out|channels_in"), axes)


_TENSOR = {"heads": "model", "mlp": "model", "vocab": "model"}


def _layout(
    name: str, mesh: Mapping[str, int | str], compute: Rules, sharded: Rules, stage: int = 3
) -> Layout:
    """A layout of a ZeRO stage (arXiv 1910.02054): from stage 1 the optimizer's state is sharded,
    from stage 2 the gradients too, and at stage 3 the parameters too.
    """
    params, gradients = sharded if stage >= 3 else {}, sharded if stage >= 2 else {}
    return Layout(name, mesh, params, gradients, sharded if stage >= 1 else {}, compute)


def dp(data: int = -1) -> Layout:
    """Data parallelism: everything replicated, the batch split."""
    return _layout("dp", {"data": data}, {"batch": "data"}, {}, stage=0)


def zero1(data: int = -1) -> Layout:
    """Data parallelism with the optimizer's state sharded."""
    return _layout("zero1", {"data": data}, {"batch": "data"}, _sharded("data"), stage=1)


def zero2(data: int = -1) -> Layout:
    """Data parallelism with gradients and the optimizer's state sharded."""
    return _layout("zero2", {"data": data}, {"batch": "data"}, _sharded("data"), stage=2)


def fsdp(data: int = -1) -> Layout:
    """Data parallelism with weights, gradients and the optimizer's state sharded."""
    return _layout("fsdp", {"data": data}, {"batch": "data"}, _sharded("data"))


def tp(model: int = -1) -> Layout:
    """Tensor parallelism (Megatron): heads, the feed-forward, the vocabulary and the channels of
    convolutions split, the batch replicated.
    """
    rules = {**_TENSOR, "channels_out|channels_in": "model"}
    return _layout("tp", {"model": model}, dict(_TENSOR), rules)


def fsdp_tp(data: int = -1, model: int = 2) -> Layout:
    """fsdp over data, tp over model."""
    rules = {**_sharded("data"), **_TENSOR}
    return _layout("fsdp_tp", {"data": data, "model": model}, {"batch": "data", **_TENSOR}, rules)


def sequence(data: int = -1, sequence: int = 2) -> Layout:
    """The positions of a row (rows of a picture) split, and weights sharded over all devices.

    Attention needs all positions of a row: inside it the heads are split instead, with an
    all-to-all before and after it (DeepSpeed-Ulysses, arXiv 2309.14509). An array that no
    alternative divides is replicated."""
    compute = {"batch": "data", "length|rows|heads": "sequence"}
    mesh = {"data": data, "sequence": sequence}
    return _layout("sequence", mesh, compute, _sharded("data", "sequence"))


def expert(expert: int = 0, data: int = -1) -> Layout:
    """Timestep experts spread over groups of devices, and fsdp inside a group; fsdp for a model
    without experts. expert=0: as many groups as divide both the experts and the devices.
    """
    mesh = {"expert": expert or "expert", "data": data}
    compute = {"batch": ("expert", "data"), "expert": "expert"}
    return _layout("expert", mesh, compute, {"expert": "expert", **_sharded("data")})


def group_sharded(replica: int = -1, shard: int = 4, stage: int = 3) -> Layout:
    """ERNIE-ViLG's figure 3: shards inside a group, copies across groups; `stage` is the ZeRO stage
    (1, 2 or 3).
    """
    if stage not in (1, 2, 3):
        raise UserError(f"layout group_sharded: stage={stage!r} must be 1, 2 or 3")
    mesh = {"replica": replica, "shard": shard}
    return _layout("group_sharded", mesh, {"batch": ("replica", "shard")}, _sharded("shard"), stage)


def hybrid_fsdp(replica: int = 2, data: int = -1) -> Layout:
    """fsdp inside a slice, copies across slices: only gradients cross the data-centre network."""
    mesh = {"replica": replica, "data": data}
    return _layout("hybrid_fsdp", mesh, {"batch": ("replica", "data")}, _sharded("data"))


def hybrid_fsdp_tp(replica: int = 2, data: int = -1, model: int = 2) -> Layout:
    """fsdp_tp inside a slice, copies across slices."""
    mesh = {"replica": replica, "data": data, "model": model}
    compute = {"batch": ("replica", "data"), **_TENSOR}
    return _layout("hybrid_fsdp_tp", mesh, compute, {**_sharded("data"), **_TENSOR})


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
    """{text of a layout: Layout} of texts joined by commas, or of "all"."""
    return {name: parse_layout(name) for name in (LAYOUTS if text == "all" else text.split(","))}


def parse_layout(text: str) -> Layout:
    """The layout of "name" or "name:option=number:option=number", such as "fsdp_tp:model=4" or
    "fsdp:offload=1". Errors: UserError for an unknown name or option, or a value that is none.
    """
    name, *options = str(text).split(":")
    if name not in LAYOUTS:
        raise UserError(f"layout.name={text!r}: known layouts are {', '.join(LAYOUTS)}")
    known = (*inspect.signature(LAYOUTS[name]).parameters, "offload")
    numbers = {}
    for option in options:
        key, _, number = option.partition("=")
        if key not in known or not re.fullmatch("-?[0-9]+", number):
            raise UserError(
                f"layout.name={text!r}: {option!r} is not axis=whole number with axis one of"
                f" {', '.join(known)}"
            )
        numbers[key] = int(number)
    offload = numbers.pop("offload", 0)
    if offload not in (0, 1):
        raise UserError(f"layout.name={text!r}: offload={offload} must be 0 or 1")
    return dataclasses.replace(LAYOUTS[name](**numbers), offload=bool(offload))
