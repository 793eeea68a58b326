"""vilg quickstart: trains a codec and a transformer on synthetic scenes, samples, captions, scores, and writes a page.

WORKDIR/codec and WORKDIR/autoregressive are workdirs that every verb accepts; WORKDIR/report/index.html opens offline, with
report.json and samples/ beside it. Run again, it goes on where it stopped; the costs of the parts add up.
"""

import argparse
import contextlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vilg.data.scenes.render import render
from vilg.data.scenes.source import cell
from vilg.evals.reconstruction import Reconstruction
from vilg.evals.scenes import Scenes, Trial, summarize
from vilg.experiment import build_experiment, to_dict
from vilg.report.page import GeneratorView, write_page
from vilg.run.session import open_session
from vilg.run.train import train
from vilg.run.workdir import Workdir, versions
from vilg.training.log import read_metrics
from vilg.types import UserError

SHOWN = 12  # reconstructions on the page
INTRO = (
    "A VQ codec and a bidirectional text-image transformer (ERNIE-ViLG 1.0) were trained from nothing on procedural scenes with Chinese "
    "and English captions: 32x32 pixels, 8x8 codes, one or two objects, 8 colours, 6 shapes, 3 sizes, 4 relations, plain background."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("--workdir", required=True, help="directory of everything that comes out")
    parser.add_argument("--quiet", action="store_true", help="no progress line")


class Costs:
    """Seconds and CPU-seconds of each stage, kept in a file so that training in parts adds up."""

    def __init__(self, path: Path):
        self.path = path
        self.seconds, self.cpu_seconds = json.loads(path.read_text()) if path.exists() else ({}, {})

    @contextlib.contextmanager
    def stage(self, name: str, resumes: bool = False) -> Iterator[None]:
        """Notes what the body takes, even if it is interrupted; adds it to what is there if the stage goes on where it stopped."""
        wall, cpu = time.time(), cpu_time()
        before = (self.seconds.get(name, 0), self.cpu_seconds.get(name, 0)) if resumes else (0, 0)
        try:
            yield
        finally:
            self.seconds[name] = round(before[0] + time.time() - wall, 1)
            self.cpu_seconds[name] = round(before[1] + cpu_time() - cpu, 1)
            self.path.write_text(json.dumps([self.seconds, self.cpu_seconds]))


def cpu_time() -> float:
    """CPU-seconds of this process and its ended children."""
    t = os.times()
    return t.user + t.system + t.children_user + t.children_system


def main(args: argparse.Namespace, config: Any) -> int:
    """All stages."""
    if config is None:
        raise UserError("--config is missing: give --config=experiments/quickstart.py")
    config = to_dict(config)
    root = Path(args.workdir)
    root.mkdir(parents=True, exist_ok=True)
    scenes = build_experiment(config).evals.get("scenes")
    if not isinstance(scenes, Scenes):
        raise UserError("evals.scenes is missing: the quickstart scores scenes; give its section in the experiment")
    costs = Costs(root / "costs.json")
    codec_dir, generator_dir = root / "codec", root / "autoregressive"
    config["codec"]["workdir"] = str(codec_dir)
    with costs.stage("codec", resumes=True):
        train(config["codec"]["experiment"], codec_dir, args.quiet, title="codec")
    with costs.stage("autoregressive", resumes=True):
        train(config, generator_dir, args.quiet, title="autoregressive")
    with costs.stage("samples_and_scores"):
        codec, generator = open_session(str(codec_dir)), open_session(str(generator_dir))
        quality = Reconstruction(images=512, split=scenes.split)(codec)
        trials = scenes.trials(generator)
    report = {
        "scores": {"autoregressive": summarize(trials)},
        "codec": {k: quality[k] for k in ("psnr", "codebook_usage", "two_objects")},
        "seconds": costs.seconds,
        "cpu_seconds": costs.cpu_seconds,
        "snapped": generator.experiment.data.train.snap > 0,
        "commit": ", ".join(Workdir(generator_dir).read().get("commits", ["unknown"])),  # of the training, however often scored
        "versions": versions(),
        "parameters": {"codec": codec.program.parameters, "autoregressive": generator.program.parameters},
        "protocol": scenes.protocol(),
    }
    with costs.stage("report"):
        out = root / "report"
        write_samples(out / "samples", {"autoregressive": trials}, scenes.seed)
        originals = np.stack([render(s, 32) for s in cell(codec.experiment.data.valid, 2, "seen", SHOWN, scenes.split)])
        page(out, report, trials, (originals, codec.pictures(codec.codes(originals))), codec_dir, generator_dir)
    report |= {"seconds": costs.seconds, "cpu_seconds": costs.cpu_seconds}
    (out / "report.json").write_text(json.dumps(report, indent=1, ensure_ascii=False))
    print(f"{out / 'index.html'}: {headline(report)}")
    return 0


def page(out: Path, report: dict, trials: Sequence[Trial], pairs: tuple, codec_dir: Path, generator_dir: Path) -> None:
    """The page, from what the stages left."""
    curves = {"codec": read_metrics(codec_dir / "metrics.jsonl"), "autoregressive": read_metrics(generator_dir / "metrics.jsonl")}
    views = [GeneratorView("autoregressive", list(trials))]
    write_page(out, report, title="vilg quickstart", intro=INTRO, generators=views, reconstructions=pairs, curves=curves)


def headline(report: dict) -> str:
    """The main scores in a line."""
    scores = report["scores"]["autoregressive"]
    names = ("single_object", "two_objects", "captions_exact")
    return ", ".join(f"{n} {scores[n]:.3f}" for n in names if n in scores) + f", {sum(report['cpu_seconds'].values()):.0f} CPU-seconds"


def write_samples(out: Path, trials: dict[str, Sequence[Trial]], seed: int) -> None:
    """Every scored picture and caption with its scene, so that anybody's scorer can recompute every score."""
    out.mkdir(parents=True, exist_ok=True)
    files = {"sample": [], "caption": []}
    for generator, items in trials.items():
        for i, t in enumerate(items):
            file = f"{generator}_{t.cell}_{t.kind}_{i:05d}.png"
            Image.fromarray(t.image).save(out / file)
            line = {"generator": generator, "file": file, "language": t.language, "scene": t.scene.to_dict(), "cell": t.cell}
            line |= {"prompt": t.prompt, "seed": seed} if t.kind == "sample" else {"caption": t.prompt}
            files[t.kind].append(line | {"right": t.right, **({"parts": t.parts} if t.parts else {})})
    for name, lines in (("samples.jsonl", files["sample"]), ("captions.jsonl", files["caption"])):
        (out / name).write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
