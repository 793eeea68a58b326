"""The quickstart at smoke size: every stage, and the report's contract."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.flags import UNOPTIMIZED
from vilg.evals.scenes import CELLS


def quickstart(workdir: Path) -> int:
    """The verb as launch/quickstart.sh calls it, but for programs compiled without optimization: a
    process of its own, one device.
    """
    command = [
        "-m",
        "vilg.run.cli",
        "quickstart",
        "--config=experiments/quickstart.py:smoke",
        f"--workdir={workdir}",
        "--quiet",
    ]
    return subprocess.run(
        [sys.executable, *command], env={**os.environ, "XLA_FLAGS": UNOPTIMIZED}
    ).returncode


def test_the_report_holds_what_scripts_depend_on(tmp_path):
    assert quickstart(tmp_path) == 0
    out = tmp_path / "report"
    page = (out / "index.html").read_text()
    assert "<html" in page and "http://" not in page.replace("http://www.w3.org", "")
    report = json.loads((out / "report.json").read_text())
    assert list(report["scores"]) == ["autoregressive", "diffusion"]
    scores = report["scores"]["autoregressive"]
    names = {"single_object", "two_objects", "captions_exact", "captions_exact_two"}
    assert names <= set(scores) and names == set(scores["held_out"])
    assert set(scores["by_language"]) == {"zh", "en"} and names <= set(scores["by_language"]["zh"])
    assert scores["n"]["single_object"] == 8 and len(scores["ci95"]["two_objects"]) == 2
    drawn = report["scores"]["diffusion"]
    assert (
        {"single_object", "two_objects"} == set(drawn["held_out"])
        and "captions_exact" not in drawn
        and set(drawn["ci95"]) >= {"two_objects"}
    )
    assert set(report["parameters"]) == {"codec", "autoregressive", "diffusion"} and set(
        report["protocol"]["generators"]
    ) == set(report["scores"])
    assert (
        set(report["codec"]) == {"psnr", "codebook_usage", "two_objects"}
        and report["snapped"] is True
    )
    assert (
        set(report["seconds"])
        == set(report["cpu_seconds"])
        == {"codec", "autoregressive", "diffusion", "samples_and_scores", "report"}
    )
    samples = [
        json.loads(line) for line in (out / "samples" / "samples.jsonl").read_text().splitlines()
    ]
    captions = [
        json.loads(line) for line in (out / "samples" / "captions.jsonl").read_text().splitlines()
    ]
    assert len(samples) == 2 * len(captions) == 2 * 8 * len(CELLS)
    assert [s["prompt"] for s in samples if s["generator"] == "diffusion"] == [
        s["prompt"] for s in samples if s["generator"] == "autoregressive"
    ]
    assert {"generator", "file", "prompt", "language", "seed", "scene"} <= set(samples[0])
    assert {"generator", "file", "caption", "language", "scene"} <= set(captions[0])
    assert all((out / "samples" / s["file"]).exists() for s in samples + captions)
    assert (tmp_path / "autoregressive" / "text.model").read_bytes() == (
        tmp_path / "diffusion" / "text.model"
    ).read_bytes()
    for name in ("codec", "autoregressive", "diffusion"):
        assert (tmp_path / name / "config.json").exists()
    again = json.loads((tmp_path / "costs.json").read_text())
    assert quickstart(tmp_path) == 0
    assert json.loads((out / "report.json").read_text())["scores"] == report["scores"]
    assert json.loads((tmp_path / "costs.json").read_text())[0]["codec"] >= again[0]["codec"]
