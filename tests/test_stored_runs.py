"""Runs written by earlier code resume, sample, caption, evaluate and rank as they did then.

tests/stored_runs/README.md describes the runs and how they were made. Floats differ between
processors. On a processor with an entry in digests.json every result must be equal bit for bit. On
any other processor every result must be near expected.json and expected.npz, and the resumed runs
must be near the finished ones. `UPDATE_STORED_RUNS=1` adds an entry for this processor, if its
results are near; it never changes an entry.
"""

import hashlib
import json
import os
import platform
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from tests.stored_runs.measure import ENVIRONMENT, KINDS

STORED = Path(__file__).parent / "stored_runs"
# Packages whose versions decide how results are rounded.
DECIDING = ("jax", "jaxlib", "flax", "optax", "numpy")
INSTRUCTIONS = ("avx", "avx2", "fma", "avx512f", "amx_tile", "asimd", "sve")
WRITER = "written on"  # in digests.json: the processor and versions on which the runs were trained
# Largest differences between unoptimized and optimized programs, SSE4.2, AVX2 and AVX512, one
# thread and two: states 2e-7 of their length, numbers 1.4e-4 of those near 1e-3 and 1.3e-6 of
# others, no pixel and no caption.
STATE, NUMBER, PIXELS = 1e-4, 2e-3, 0.01
# The noise of caption_gap is keyed by a rounded sum of latents, so one record can get other noise:
# with jaxlib 0.12 errors differ by 3.7e-3. The other figures of caption_gap are computed from these
# errors, often as small differences, and are compared by their digests alone.
GAP, GAP_NUMBER, GAP_ERRORS = "/caption_gap/", 1e-2, ("/own", "/other", "/t", "/noise")


def test_stored_runs_give_what_they_gave_when_they_were_written(tmp_path):
    results, pictures = measured(tmp_path)
    here, table = processor(), json.loads((STORED / "digests.json").read_text())
    problems = [*far_from_stored(results), *far_from_expected(results, pictures)]
    found = digests(results, pictures)
    if os.environ.get("UPDATE_STORED_RUNS") and not problems and here not in table["results"]:
        table["results"][here] = found
        (STORED / "digests.json").write_text(json.dumps(table, indent=1) + "\n")
    if here in table["results"]:
        there = table["results"][here]
        problems += [
            f"{k}: digest {found.get(k)}, was {there.get(k)}"
            for k in sorted({*found, *there})
            if found.get(k) != there.get(k)
        ]
    if here == table[WRITER]:
        apart = [kind for kind in KINDS if results[kind]["resumed"] != results[kind]["trained"]]
        problems += [f"{kind}: the resumed run is not the uninterrupted one" for kind in apart]
    assert not problems, "\n".join(problems)


def measured(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Results and pictures of all stored runs, from another process, which has one device and other
    flags of XLA than the tests."""
    for archive in sorted(STORED.glob("*/*.tar.xz")):
        with tarfile.open(archive) as tar:
            tar.extractall(
                folder / "runs" / archive.parent.name / archive.name.removesuffix(".tar.xz"),
                filter="data",
            )
    (folder / "out").mkdir()
    command = [
        sys.executable,
        str(STORED / "measure.py"),
        str(folder / "runs"),
        str(folder / "out"),
    ]
    root = Path(__file__).resolve().parents[1]
    environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(root)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, env=environment)
    assert done.returncode == 0, done.stderr[-4000:]
    with np.load(folder / "out" / "pictures.npz") as pictures:
        return json.loads((folder / "out" / "results.json").read_text()), dict(pictures)


def processor() -> str:
    """The processor's model and the packages' versions, on which results are equal bit for bit."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    told = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in reversed(lines))}
    has = (told.get("flags") or told.get("Features") or "").split()
    name = [told.get("model name") or platform.processor() or platform.machine()]
    name += [f"{k} {told[k]}" for k in ("cpu family", "model") if k in told]
    name += [i for i in INSTRUCTIONS if i in has]
    return "; ".join([", ".join(name), ", ".join(f"{p} {version(p)}" for p in DECIDING)])


def digests(results: dict[str, Any], pictures: dict[str, np.ndarray]) -> dict[str, str]:
    """{"kind/name": digest} of every result."""
    contents = {
        f"{kind}/{name}": json.dumps(value, sort_keys=True).encode()
        for kind, found in results.items()
        for name, value in found.items()
        if name not in ("trained", "apart")
    }
    contents |= {
        name: str(pixels.shape).encode() + pixels.tobytes() for name, pixels in pictures.items()
    }
    return {
        name: hashlib.sha256(content).hexdigest()[:16] for name, content in sorted(contents.items())
    }


def far_from_stored(results: dict[str, Any]) -> list[str]:
    """Problems of the half-trained runs, now at their last step, against the finished ones."""
    problems = []
    for kind, found in results.items():
        resumed, trained = found["resumed"], found["trained"]
        if resumed["step"] != trained["step"]:
            problems.append(f"{kind}: resumed to step {resumed['step']} of {trained['step']}")
        if resumed["digests"].keys() != trained["digests"].keys():
            problems.append(f"{kind}: the state has other arrays")
        problems += [
            f"{kind}: {part} is apart by {share:.1e}"
            for part, share in found["apart"].items()
            if not share <= STATE
        ]
        problems += differences(f"{kind}/logged", resumed["logged"], trained["logged"])
    return problems


def far_from_expected(results: dict[str, Any], pictures: dict[str, np.ndarray]) -> list[str]:
    """Problems of the results of the verbs."""
    expected = json.loads((STORED / "expected.json").read_text())
    problems = [
        p
        for kind in KINDS
        for p in differences(kind, flat(verbs(results[kind])), flat(expected[kind]))
    ]
    with np.load(STORED / "expected.npz") as file:
        wanted = dict(file)
    problems += [f"pictures are {sorted(pictures)}"] if pictures.keys() != wanted.keys() else []
    for name in pictures.keys() & wanted.keys():
        same_shape = pictures[name].shape == wanted[name].shape
        apart = np.abs(pictures[name].astype(int) - wanted[name]) if same_shape else np.array([255])
        share = np.mean(apart > 2)
        problems += [f"{name}: {share:.1%} of the pixels differ"] if share > PIXELS else []
    return problems


def verbs(found: dict[str, Any]) -> dict[str, Any]:
    """The results without those of training."""
    return {k: v for k, v in found.items() if k not in ("trained", "resumed", "apart")}


def flat(tree: dict[str, Any]) -> dict[str, Any]:
    """The numbers and texts of results by a/b names."""
    return {
        f"{a}/{b}": x
        for a, inner in tree.items()
        for b, x in (inner.items() if isinstance(inner, dict) else enumerate(inner))
    }


def differences(place: str, found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Problems: names that only one has, texts that differ, numbers that are not near."""
    problems = [
        f"{place}/{k}: {'is new' if k in found else 'is gone'}"
        for k in sorted(found.keys() ^ wanted.keys())
    ]
    for k in sorted(found.keys() & wanted.keys()):
        number = isinstance(wanted[k], float | int) and isinstance(found[k], float | int)
        if GAP in k and not k.endswith(GAP_ERRORS):
            continue
        relative = GAP_NUMBER if GAP in k else NUMBER
        margin = relative * max(abs(wanted[k]), 1e-3) if number else 0.0
        near = abs(found[k] - wanted[k]) <= margin if number else found[k] == wanted[k]
        problems += [] if near else [f"{place}/{k}: {found[k]!r}, was {wanted[k]!r}"]
    return problems
