"""The figures of a row of a plan, counted and estimated from a compiled program."""

import math
from collections.abc import Sequence
from typing import Any

import jax
from jaxtyping import PyTree

from vilg.parallel.mesh import slice_places
from vilg.planning.compilation import Compiled
from vilg.planning.costs import count
from vilg.planning.estimate import estimate
from vilg.planning.hlo_parser import parse
from vilg.planning.memory import Buffer, buffers_at_peak
from vilg.planning.phases import PHASES
from vilg.planning.programs import PlannedProgram
from vilg.planning.topology import Topology
from vilg.program import HOST_MEMORY, Program

LARGEST = 8  # buffers that a row names


def measures(
    program: Program, planned: PlannedProgram, compiled: Compiled, topology: Topology
) -> dict[str, Any]:
    """The fields of a row for a program that was compiled."""
    chip, devices = topology.chip, list(program.mesh.devices.flat)
    module = parse(compiled.text)
    costs = count(module, program.sizes, slice_places(devices))
    table, buffers = costs.collective_table(), buffers_at_peak(module)
    seconds = estimate(costs, topology, devices)
    mfu = seconds.mfu(planned.model_flops / topology.size, chip)
    needed, limit = compiled.bytes_needed, chip.hbm / chip.devices
    tokens = planned.tokens
    return {
        "status": "fits" if needed <= limit or topology.generation == "cpu" else "oom",
        "hbm_bytes": needed,
        "hbm_limit_bytes": limit,
        "hbm": memory_by_use(planned, buffers, float(compiled.memory["temp"]), needed),
        "largest_buffers": [vars(b) for b in buffers[:LARGEST]],
        # the compiler for fake devices gives no account of the host's memory
        "host_bytes": max(bytes_of(planned.other_state, HOST_MEMORY), compiled.host_bytes),
        "flops_per_device": costs.total_flops,
        "flops_by_phase": dict(costs.flops),
        "collective_bytes": {
            axis: sum(kind["bytes"] for kind in kinds.values()) for axis, kinds in table.items()
        },
        "collectives": table,
        "collectives_by_phase": {
            phase: part for phase in PHASES if (part := costs.collective_table(phase=phase))
        },
        "estimated_step_seconds": seconds.likely,
        "seconds": {
            "compute": seconds.compute,
            "memory": seconds.memory,
            "asynchronous": seconds.asynchronous,
            "synchronous": seconds.synchronous,
            "host": seconds.host,
        },
        "mfu": mfu,
        "estimated_mfu": mfu["likely"],
        "tokens_per_second_per_chip": (
            tokens / seconds.likely / topology.chips if tokens else None
        ),
        "images_per_second_per_chip": planned.images / seconds.likely / topology.chips,
        "bound_by": seconds.bound_by,
        "warnings": [*compiled.warnings, *costs.warnings],
    }


def memory_by_use(
    planned: PlannedProgram, buffers: Sequence[Buffer], temporary: float, needed: float
) -> dict[str, float]:
    """Bytes of a device by their use.

    Activations are what the forward pass leaves for the backward pass at the peak of memory; rest
    is the batch, the frozen codec, results that take no argument's place, and code."""
    activations = min(temporary, sum(b.bytes for b in buffers if b.phase == "forward"))
    uses = {"parameters": bytes_of(planned.params), "optimizer": bytes_of(planned.other_state)}
    uses |= {"activations": activations, "temporaries": temporary - activations}
    return uses | {"rest": max(0.0, needed - sum(uses.values()))}


def bytes_of(tree: PyTree, kind: str = "device") -> float:
    """Bytes on one device of abstract arrays that are in this kind of memory."""
    kinds = (kind, None) if kind == "device" else (kind,)
    arrays = [x for x in jax.tree.leaves(tree) if x.sharding.memory_kind in kinds]
    sizes = (math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in arrays)
    return float(sum(sizes))
