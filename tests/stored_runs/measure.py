"""Measures the stored runs: `python tests/stored_runs/measure.py RUNS OUT`.

RUNS holds KIND/finished and KIND/half as unpacked. It is changed, since the half-trained runs go on
in it. OUT receives results.json, {kind: {name: numbers or texts}}, and pictures.npz,
{"kind/name": uint8}. Everything is asked of the command line and read from the files that runs
leave, so this file imports no module of vilg but the command line's.
"""

import contextlib
import gc
import json
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

# What rounding depends on beside the processor: one device, two threads however many cores there
# are (one thread and two add up a gradient of the codec in another order), and no instructions
# beyond AVX2. The other flags make programs compile quickly; the emitters of fused kernels, which
# take long, can be avoided in jaxlib 0.10, and jaxlib 0.12 ends on the flag that does so.
FLAGS = (
    "--xla_force_host_platform_device_count=1",
    "--xla_cpu_max_isa=AVX2",
    "--xla_backend_optimization_level=0",
    "--xla_cpu_parallel_codegen_split_count=1",
    *(["--xla_cpu_use_fusion_emitters=false"] if version("jaxlib").startswith("0.10.") else []),
)
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "NPROC": "2",
    "XLA_FLAGS": " ".join(FLAGS),
}
GENERATORS = ("transformer", "diffusion", "experts")
KINDS = ("codec", *GENERATORS, "ranker")
PROMPTS = ("a large red circle", "一个蓝色的三角形")


def get_config(workdir: str) -> Any:
    """The config that the run has stored: with it `vilg train` goes on. The path of the codec's
    run, which is stored relative to this run, is made absolute."""
    from ml_collections import ConfigDict

    config = json.loads((Path(workdir) / "config.json").read_text())["config"]
    if config["codec"].get("workdir"):
        config["codec"]["workdir"] = str((Path(workdir) / config["codec"]["workdir"]).resolve())
    return ConfigDict(config)


def main(runs: Path, out: Path) -> None:
    """Measures all kinds."""
    import numpy as np

    results: dict[str, dict[str, Any]] = {}
    pictures: dict[str, Any] = {}
    vilg("data", "synth", "--n=2", "--split=valid", "--snap=4", f"--out={out / 'scenes'}")
    for kind in KINDS:
        found = results[kind] = {"trained": trained(runs / kind / "finished")}
        half, finished = runs / kind / "half", runs / kind / "finished"
        train(half)
        found["resumed"] = trained(half)
        equal = found["resumed"]["digests"] == found["trained"]["digests"]
        found["apart"] = {} if equal else apart(half, finished)
        for file in (half / "samples").glob("*.png"):
            pictures[f"{kind}/{file.stem}"] = picture(file)
        before = snapshot(finished)
        train(finished)
        if snapshot(finished) != before:
            raise SystemExit(f"{finished} was trained again, though it is finished")
        place, made = f"--workdir={finished}", out / kind
        vilg("evaluate", place, f"--out={made}.json")
        found["evaluated"] = flat(json.loads(Path(f"{made}.json").read_text())["metrics"])
        if kind in GENERATORS:
            vilg("sample", place, *(f"--prompt={p}" for p in PROMPTS), f"--out={made}", "--quiet")
            pictures[f"{kind}/sampled"] = np.stack(
                [picture(made / f"{k:05d}.png") for k in range(len(PROMPTS))]
            )
        if kind == "transformer":
            vilg("caption", place, f"--images={out / 'scenes' / 'images'}", f"--out={made}.jsonl")
            lines = [json.loads(line) for line in Path(f"{made}.jsonl").read_text().splitlines()]
            found["captions"] = [c["text"] for line in lines for c in line["captions"]]
            found["caption_scores"] = [s for line in lines for s in line["scores"]]
        if kind == "ranker":
            source = "--source=synthetic:valid,n=4,snap=4,max_objects=2,groups=0,backgrounds=plain"
            vilg("data", "rank", source, f"--ranker={finished}", f"--out={made}.jsonl")
            lines = [json.loads(line) for line in Path(f"{made}.jsonl").read_text().splitlines()]
            found["ranked"] = [c["score"] for line in lines for c in line["scores"]]
    (out / "results.json").write_text(json.dumps(results, indent=1, ensure_ascii=False))
    np.savez_compressed(out / "pictures.npz", **pictures)


def vilg(*arguments: str) -> None:
    """A verb of the command line, which must succeed."""
    from vilg.run.cli import main as command_line

    code = command_line(arguments)
    if code:
        raise SystemExit(f"vilg {' '.join(arguments)}: exit code {code}")


def train(workdir: Path) -> None:
    """Goes on with a run."""
    vilg("train", f"--config={__file__}:{workdir}", f"--workdir={workdir}", "--quiet")


def snapshot(workdir: Path) -> dict[str, int]:
    """The files of a run with the times of their last change, but for the lock and config.json,
    which training writes anew."""
    files = (
        p for p in workdir.rglob("*") if p.is_file() and p.name not in (".lock", "config.json")
    )
    return {str(p.relative_to(workdir)): p.stat().st_mtime_ns for p in files}


def trained(workdir: Path) -> dict[str, Any]:
    """The last checkpoint's step and the digests of its arrays, which are stored beside them, and
    the numbers that were logged for each step, but for times."""
    newest = last(workdir)
    arrays = json.loads((newest / "meta" / "metadata").read_text())["arrays"]
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    logged = {
        f"{line['step']}/{k}": v
        for line in lines
        for k, v in line.items()
        if k not in ("step", "time") and not k.endswith("_seconds")
    }
    return {
        "step": int(newest.name),
        "digests": {k: v[2] for k, v in arrays.items()},
        "logged": logged,
    }


def last(workdir: Path) -> Path:
    """The newest checkpoint."""
    return max(
        (p for p in (workdir / "checkpoints").iterdir() if p.name.isdigit()),
        key=lambda p: int(p.name),
    )


def apart(one: Path, other: Path) -> dict[str, float]:
    """For every part of the state, such as "params" and "ema", the length of the difference of two
    runs' arrays as a share of the length of the other's."""
    import jax
    import numpy as np
    import orbax.checkpoint as ocp

    found = {}
    with contextlib.closing(ocp.StandardCheckpointer()) as reader:
        states = [reader.restore(last(workdir) / "state") for workdir in (one, other)]
    for part, theirs in states[1].items():
        pairs = [
            [np.asarray(x, np.float64) for x in pair]
            for pair in zip(*map(jax.tree.leaves, (states[0][part], theirs)), strict=True)
        ]
        length = sum(np.sum(y**2) for _, y in pairs)
        found[part] = (
            float(np.sqrt(sum(np.sum((x - y) ** 2) for x, y in pairs) / length)) if pairs else 0.0
        )
    return found


def flat(tree: Any, name: str = "") -> dict[str, Any]:
    """The leaves of nested dicts and lists by a/b names."""
    if not isinstance(tree, dict | list):
        return {name: tree}
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree)
    return {
        k: v
        for key, value in inner
        for k, v in flat(value, f"{name}/{key}" if name else str(key)).items()
    }


def picture(file: Path) -> Any:
    """uint8 [H, W, 3]."""
    import numpy as np
    from PIL import Image

    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


if __name__ == "__main__":
    os.environ.update(ENVIRONMENT)
    gc.disable()  # a tenth of the time goes into looking through what tracing allocates
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
