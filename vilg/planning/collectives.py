"""Collectives in HLO: their kinds, the groups of devices that communicate, and the mesh axes along
which these groups lie.

XLA writes groups in five ways: as lists, as an iota, as axes of a mesh, as pairs of a permutation,
and, between slices, as the target of a transfer over the data-centre network. A group holds
positions of devices in the mesh, which is counted in row-major order."""

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

from vilg.planning.hlo import Instruction

COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)
Places = Mapping[tuple[int, int], int]  # {(slice, chip): position in the mesh}
Groups = list[list[int]]
# Attributes of libtpu's runtime for the data-centre network.
_TRANSFER_TYPE = re.compile(r'_xla_megascale_transfer_type="(\w+)"')
_TRANSFER_TARGET = re.compile(r'_xla_megascale_target=(?:"([^"]*)"|(\{(?:\{[\d,>\-]*\},?)*\}))')
_MESH = re.compile(
    r"mesh\[([^\]]*)\](?:,? device_ids=\((\[[^\]]*\](?:T\([^)]*\))?|[\d,]*)\))?,?\s*\{([^}]*)\}"
)
_IOTA = re.compile(r"\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
SLICE_STRIDE = 100_000  # a transfer names a device by (slice + 1) x this + chip


def kind_of(instruction: Instruction) -> str:
    """The kind of a collective, "" for anything else. An asynchronous collective has it at its
    start, and a transfer between slices at the half that sends.
    """
    kind = instruction.opcode.removesuffix("-start")
    if kind == "send":
        transfer = _TRANSFER_TYPE.search(instruction.rest)
        kind = transfer[1].lower().replace("_", "-") if transfer else ""
        kind = "collective-permute" if kind == "one-to-one" else kind
    return kind if kind in COLLECTIVES else ""


def groups_of(instruction: Instruction, devices: int, places: Places | None = None) -> Groups:
    """The groups of positions that communicate in a collective; the pairs of a permutation.

    `places` is needed for several slices; without it slices are taken to lie in the mesh one after
    another. Errors: ValueError for groups that are written in an unknown way."""
    if instruction.opcode == "send":
        return _slice_groups(instruction, devices, places)
    if kind_of(instruction) == "collective-permute":
        pairs = re.search(r"source_target_pairs=\{((?:\{\d+,\d+\},?)*)\}", instruction.rest)
        return [_numbers(pair) for pair in re.findall(r"\{(\d+,\d+)\}", pairs[1])] if pairs else []
    attribute = re.search(r"replica_groups=", instruction.rest)
    text = instruction.rest[attribute.end() :] if attribute else "{}"
    if text.startswith("{}"):
        return [list(range(devices))]
    if text.startswith("{{"):
        lists = re.findall(r"\{([\d,]+)\}", text[: text.index("}}") + 2])
        return [_numbers(group) for group in lists]
    if iota := _IOTA.match(text):
        return _iota(iota[2], iota[3]).reshape(_numbers(iota[1])).tolist()
    if mesh := _MESH.match(text):
        return _mesh_groups(mesh[1], mesh[2], mesh[3])
    raise ValueError(
        f"{instruction.name}: replica_groups are written in a way that is not known: {text[:80]}"
    )


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def _iota(shape: str, order: str | None) -> np.ndarray:
    """The ids 0, 1, 2, ... of a grid of this shape, its dimensions transposed into this order."""
    sizes = _numbers(shape)
    ids = np.arange(math.prod(sizes)).reshape(sizes)
    return ids.transpose(_numbers(order)) if order else ids


def _slice_groups(instruction: Instruction, devices: int, places: Places | None) -> Groups:
    """The groups of a transfer between slices, whose target is written in one of three ways.

    "{1,2}x{0:3}": one group of two slices, in which each of the chips 0 to 3 communicates with the
    same chip of the other slice; {{100000,200003},...}: lists of devices, named by slice + 1 and
    chip (SLICE_STRIDE); {{100000->200003},...}: pairs of these."""
    match = _TRANSFER_TARGET.search(instruction.rest)
    target = (match[1] or match[2]) if match else ""
    product = re.fullmatch(r"\{(\d+),(\d+)\}x\{(\d+):(\d+)\}", target)
    if product:
        groups, members, first, last = map(int, product.groups())
        listed = [
            [(g * members + m, chip) for m in range(members)]
            for g in range(groups)
            for chip in range(first, last + 1)
        ]
        slices = groups * members
    else:
        listed = []
        for group in re.findall(r"\{([\d,>\-]+)\}", target):
            ids = [divmod(int(i), SLICE_STRIDE) for i in re.findall(r"\d+", group)]
            listed.append([(slice_ - 1, chip) for slice_, chip in ids])
        slices = 1 + max((slice_ for group in listed for slice_, _ in group), default=0)
    if not listed or any(slice_ < 0 for group in listed for slice_, _ in group):
        raise ValueError(
            f"{instruction.name}: a transfer between slices is written in a way that is not known:"
            f" {target or instruction.rest[:200]}"
        )
    size = devices // slices
    return [
        [places[member] if places else member[0] * size + member[1] for member in group]
        for group in listed
    ]


def _mesh_groups(axes: str, ids: str | None, along: str) -> Groups:
    """The groups of mesh['a'=4,'b'=8] {'a','b':(2)4}: positions that differ only along the axes in
    braces. 'b':(2)4 is a part of the axis b: the factor 4 that varies faster than a factor 2.
    """
    sizes = {name: int(size) for name, size in re.findall(r"'?([\w.]+)'?=(\d+)", axes)}
    source = _device_ids(ids) if ids else np.arange(math.prod(sizes.values()))
    parts = [
        (name, int(before or 1), int(size or sizes[name]))
        for name, before, size in re.findall(r"'?([\w.]+)'?(?::\((\d+)\)(\d+))?", along)
    ]
    shape: list[int] = []
    inside: list[int] = []  # dimensions of `shape` along which the members of a group differ
    for name, size in sizes.items():
        spans = [(before, before * factor) for n, before, factor in parts if n == name]
        cuts = sorted({1, size, *(cut for span in spans for cut in span)})
        for low, high in zip(cuts, cuts[1:], strict=False):
            if any(begin <= low and high <= end for begin, end in spans):
                inside.append(len(shape))
            shape.append(high // low)
    outside = [k for k in range(len(shape)) if k not in inside]
    count = math.prod(shape[k] for k in inside)
    return source.reshape(shape).transpose(outside + inside).reshape(-1, count).tolist()


def _device_ids(text: str) -> np.ndarray:
    """The device ids of "0,2,1,3" or of "[4,2]T(1,0)", an order of all devices."""
    iota = re.match(r"\[([\d,]+)\](?:T\(([\d,]+)\))?", text)
    return _iota(iota[1], iota[2]).reshape(-1) if iota else np.array(_numbers(text))


def axes_along(groups: Sequence[Sequence[int]], sizes: Mapping[str, int]) -> tuple[str, ...]:
    """The axes of a mesh of these sizes along which members of a group differ."""
    names, shape = list(sizes), tuple(sizes.values())
    differ = set()
    for group in groups:
        coordinates = np.stack(np.unravel_index(np.array(group), shape), 1)
        differ |= {names[k] for k in range(len(names)) if len(set(coordinates[:, k])) > 1}
    return tuple(name for name in names if name in differ)
