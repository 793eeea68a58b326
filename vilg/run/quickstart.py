"""vilg quickstart: trains a codec and generators on synthetic scenes, samples, captions, scores
them, and writes a page.

The config file's `generators(size)` names the generators. WORKDIR/codec and a directory for each
generator are workdirs that every verb accepts; WORKDIR/report/index.html opens offline, with
report.json and samples/ beside it. The same command continues where it was stopped, and the costs
of the parts add up. Overrides of data, codec, layout and seed (--config.data...) apply to all
generators, other overrides to the first generator."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image

from vilg.data.scenes.render import render
from vilg.data.scenes.source import Synthetic, cell
from vilg.evals.reconstruction import Reconstruction
from vilg.evals.scenes import Scenes, Trial, summarize
from vilg.experiment import build_experiment
from vilg.experiment_file import generator_configs, to_dict
from vilg.report.page import write_page
from vilg.report.trial_cards import GeneratorView
from vilg.training.log import read_metrics
from vilg.types import UserError
from vilg.workdir.files import Workdir, versions
from vilg.workdir.session import open_session
from vilg.workdir.stages import Costs
from vilg.workdir.training import train

SHOWN_RECONSTRUCTIONS = 12  # reconstructions on the page
INTRO = (
    "A VQ codec, a bidirectional text-image transformer (ERNIE-ViLG 1.0) that generates its ids and"
    " a latent diffusion model (ERNIE-ViLG 2.0) that generates its latents were trained from"
    " nothing on procedural scenes with Chinese and English captions: 32x32 pixels, 8x8 codes, one"
    " or two objects, 8 colours, 6 shapes, 3 sizes, 4 relations, plain background. Both generators"
    " sample the same prompts."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    parser.add_argument(
        "--workdir",
        default="runs/quickstart",
        help="directory of the runs and the report (default: %(default)s)",
    )
    parser.add_argument("--quiet", action="store_true", help="prints no progress line")


def main(args: argparse.Namespace, config: Any) -> int:
    """Runs all stages."""
    root = Path(args.workdir)
    root.mkdir(parents=True, exist_ok=True)
    configs = generator_configs(args.config, to_dict(config), root / "codec")
    scenes = {name: scene_evaluator(name, config) for name, config in configs.items()}
    costs = Costs(root / "costs.json")
    codec_dir = root / "codec"
    with costs.stage("codec", resumes=True):
        train(
            next(iter(configs.values()))["codec"]["experiment"],
            codec_dir,
            args.quiet,
            title="codec",
        )
    for name, generator_config in configs.items():
        with costs.stage(name, resumes=True):
            train(generator_config, root / name, args.quiet, title=name)
    with costs.stage("samples_and_scores"):
        codec = open_session(str(codec_dir))
        sessions = {name: open_session(str(root / name)) for name in configs}
        quality = Reconstruction(images=512, split=next(iter(scenes.values())).split)(codec)
        trials = {name: scenes[name].trials(session) for name, session in sessions.items()}
    first = next(iter(sessions.values()))
    report = {
        "scores": {name: summarize(t) for name, t in trials.items()},
        "codec": {k: quality[k] for k in ("psnr", "codebook_usage", "two_objects")},
        "seconds": costs.seconds,
        "cpu_seconds": costs.cpu_seconds,
        "snapped": cast(Synthetic, first.experiment.data.train).snap > 0,
        "commit": ", ".join(
            dict.fromkeys(
                c for name in configs for c in (Workdir(root / name).read().commits or ["unknown"])
            )
        ),
        "versions": versions(),
        "parameters": {
            "codec": codec.program.parameters,
            **{name: s.program.parameters for name, s in sessions.items()},
        },
        "protocol": (
            next(iter(scenes.values())).protocol()
            | {"generators": {name: e.protocol() for name, e in scenes.items()}}
        ),
    }
    with costs.stage("report"):
        out = root / "report"
        write_samples(
            out / "samples", trials, {name: evaluator.seed for name, evaluator in scenes.items()}
        )
        split = next(iter(scenes.values())).split
        valid = cast(Synthetic, codec.experiment.data.valid)
        shown = cell(valid, 2, "seen", SHOWN_RECONSTRUCTIONS, split)
        originals = np.stack([render(s, 32) for s in shown])
        page(out, report, trials, (originals, codec.pictures(codec.codes(originals))), root)
    report |= {"seconds": costs.seconds, "cpu_seconds": costs.cpu_seconds}
    (out / "report.json").write_text(json.dumps(report, indent=1, ensure_ascii=False))
    print(f"{out / 'index.html'}: {headline(report)}")
    return 0


def scene_evaluator(name: str, config: Mapping[str, object]) -> Scenes:
    """The evaluator `scenes` of a generator. Errors: UserError where its config has none."""
    evaluator = build_experiment(config).evals.get("scenes")
    if not isinstance(evaluator, Scenes):
        raise UserError(
            f"evals.scenes is missing in {name}: the quickstart scores scenes; add the section"
            " evals.scenes to the experiment"
        )
    return evaluator


def page(out: Path, report: dict, trials: dict[str, list[Trial]], pairs: tuple, root: Path) -> None:
    """Writes the page from the results of the stages."""
    curves = {name: read_metrics(root / name / "metrics.jsonl") for name in ("codec", *trials)}
    views = [GeneratorView(name, t) for name, t in trials.items()]
    write_page(
        out,
        report,
        title="vilg quickstart",
        intro=INTRO,
        generators=views,
        reconstructions=pairs,
        curves=curves,
    )


def headline(report: dict) -> str:
    """The main scores in one line."""
    names = ("single_object", "two_objects", "captions_exact")
    parts = [
        f"{g}: " + ", ".join(f"{n} {scores[n]:.3f}" for n in names if n in scores)
        for g, scores in report["scores"].items()
    ]
    return "; ".join(parts) + f"; {sum(report['cpu_seconds'].values()):.0f} CPU-seconds"


def write_samples(
    out: Path, trials: Mapping[str, Sequence[Trial]], seeds: Mapping[str, int]
) -> None:
    """Writes every scored picture and caption with its scene, so that any other scorer can
    recompute every score."""
    out.mkdir(parents=True, exist_ok=True)
    files = {"sample": [], "caption": []}
    for generator, items in trials.items():
        for i, t in enumerate(items):
            file = f"{generator}_{t.cell}_{t.kind}_{i:05d}.png"
            Image.fromarray(t.image).save(out / file)
            line = {
                "generator": generator,
                "file": file,
                "language": t.language,
                "scene": t.scene.to_dict(),
                "cell": t.cell,
            }
            if t.kind == "sample":
                line |= {"prompt": t.prompt, "seed": seeds[generator]}
            else:
                line |= {"caption": t.prompt}
            files[t.kind].append(
                line | {"right": t.right, **({"parts": t.parts} if t.parts else {})}
            )
    for name, lines in (("samples.jsonl", files["sample"]), ("captions.jsonl", files["caption"])):
        (out / name).write_text(
            "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        )
