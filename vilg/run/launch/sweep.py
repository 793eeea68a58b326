"""A sweep as tasks of a cluster: which cells and seeds form one task, and which tasks wait for
others.

`vilg sweep` does all tasks in one process; jobs.py writes them down as arrays of Slurm."""

from collections.abc import Mapping, Sequence

from vilg.workdir.ablation import Run


def waves(
    runs: Mapping[tuple[str, int], Run], chosen: Sequence[tuple[str, int]]
) -> list[list[tuple[str, int]]]:
    """Tasks ("cells joined by commas", seed) in waves; tasks of one wave do not wait for each
    other.

    Cells that share one workdir are one task. The first task that needs a codec trains it, so that
    other tasks with the same codec come in a later wave. A run comes after the run from which it
    starts."""
    tasks: dict[str, list[tuple[str, int]]] = {}
    for key in chosen:
        tasks.setdefault(str(runs[key].workdir), []).append(key)
    depth: dict[str, int] = {}
    trained: dict[str, int] = {}  # codec -> the wave that trains it
    for workdir, keys in tasks.items():
        run = runs[keys[0]]
        start = depth[str(runs[run.start, run.seed].workdir)] + 1 if run.start else 0
        codec = trained[run.codec] + 1 if run.codec in trained else 0
        depth[workdir] = max(start, codec)
        if run.codec:
            trained.setdefault(run.codec, depth[workdir])
    ordered: list[list[tuple[str, int]]] = [[] for _ in range(max(depth.values()) + 1)]
    for workdir, keys in tasks.items():
        ordered[depth[workdir]].append((",".join(cell for cell, _ in keys), keys[0][1]))
    return ordered
