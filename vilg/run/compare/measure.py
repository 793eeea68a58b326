"""The measurements of one run for `vilg compare`. Each is stored in a file named by a hash of
everything that determines it, so that a comparison that was stopped continues.

The file is separate from the verb, which knows the list of runs. This file measures one run at a
time: its scores, its scores through a perfect generator, their rise with training, and the cost of
sampling."""

import dataclasses
import hashlib
import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np

from vilg.evals.base import Paired, Reranking, Scored
from vilg.evals.scenes import Scenes, summarize
from vilg.experiment import Experiment, build_experiment
from vilg.planning import costs as counting
from vilg.planning.hlo_parser import parse
from vilg.planning.programs import lower_train_step
from vilg.program import Program
from vilg.training.checkpoint import Checkpoints
from vilg.types import Generator, Stepwise, UserError
from vilg.workdir.files import Workdir
from vilg.workdir.restore import restore
from vilg.workdir.samples import write_samples
from vilg.workdir.session import Sampled, Session, open_session

FORMAT = 2  # version of the stored measurements, part of their hash: older versions are not read
POINTS = 4  # checkpoints before the last one, on the curve of training
CURVE_PROMPTS = 64  # prompts a cell on curves
SHOWN_PICTURES = 12  # pictures of each cell on the page
TIMED_PICTURES = 64  # pictures that are sampled and timed at once


class Measures:
    """Measurements stored under DIR/measured, by a hash of their name and of everything that
    determines them."""

    def __init__(self, out: Path, quiet: bool = False):
        self.out, self.quiet = out, quiet
        self._session: tuple[Path, Session] | None = None
        self.directory = out / "measured"

    def once(self, what: str, decides: Any, measure: Callable[[], Any]) -> Any:
        """The stored result of the measurement `what`, or else the result of `measure`, which is
        then stored.

        `decides` is everything that determines the result, and is part of the hash."""
        key = json.dumps([FORMAT, what, decides], sort_keys=True, default=str)
        path = self.directory / f"{hashlib.sha256(key.encode()).hexdigest()[:20]}.json"
        if path.is_file():
            return json.loads(path.read_text())
        began = time.monotonic()
        result = measure()
        if not self.quiet:
            took = time.monotonic() - began
            print(f"{what}: measured in {took:.0f} s", file=sys.stderr, flush=True)
        self.directory.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps({"what": what} | result, ensure_ascii=False))
        temporary.replace(path)
        return json.loads(path.read_text())

    def _opened(self, workdir: Path, ema: bool) -> Session:
        """The run's session, with the moving average of its parameters or without; both use the
        same compiled programs. Only the session of the last run is kept."""
        if self._session is None or self._session[0] != workdir:
            self._session = None
            jax.clear_caches()
            self._session = (workdir, open_session(str(workdir)))
        session = self._session[1]
        if ema or not session.experiment.training.ema:
            return session
        state, _ = restore(Workdir(workdir), session.program)
        return dataclasses.replace(session, params=state.params)

    def final(self, workdir: Path, ema: bool) -> dict[str, Any]:
        """{"metrics": {evaluator: numbers}, "trials": {cell: columns}} of the newest checkpoint."""

        def measure() -> dict[str, Any]:
            session = self._opened(workdir, ema)
            metrics, scored = {}, []
            for name, evaluator in samplers(session.experiment).items():
                metrics[name], rows = evaluator.measured(session)
                scored += [(row, evaluator.base_seed) for row in rows]
            if ema:
                self._keep_pictures(workdir, [pair for pair in scored if pair[0].image is not None])
            return {"metrics": metrics, "trials": as_columns([row for row, _ in scored])}

        return self.once(
            f"{workdir}, {'ema' if ema else 'raw'}",
            [identity(workdir), ema, pictures_of(workdir)],
            measure,
        )

    def _keep_pictures(self, workdir: Path, scored: Sequence[tuple[Scored, int]]) -> None:
        samples = [
            Sampled(s.prompt, s.language, seed, False, np.asarray(s.image)) for s, seed in scored
        ]
        extra = [{"cell": s.cell, "score": s.score, **s.about} for s, _ in scored]
        write_samples(self.out / "samples" / pictures_of(workdir), samples, 16, extra)

    def pictures(self, workdir: Path) -> list[dict[str, Any]]:
        """The first samples of each cell: lines of samples.jsonl with the path of the picture."""
        listing = self.out / "samples" / pictures_of(workdir) / "samples.jsonl"
        if not listing.is_file():
            return []
        lines = [json.loads(line) for line in listing.read_text().splitlines()]
        chosen = [
            line
            for cell in dict.fromkeys(x["cell"] for x in lines)
            for line in [x for x in lines if x["cell"] == cell][:SHOWN_PICTURES]
        ]
        fields = ("prompt", "language", "cell", "score")
        return [
            {k: line[k] for k in fields}
            | {"file": f"samples/{pictures_of(workdir)}/{line['file']}"}
            for line in chosen
        ]

    def ceiling(self, workdir: Path) -> dict[str, Any]:
        """Scores of the true pictures after encoding and decoding: the scores of a perfect
        generator."""

        def measure() -> dict[str, Any]:
            session = self._opened(workdir, True)
            return {"metrics": {n: summarize(e.ceiling(session)) for n, e in scenes.items()}}

        scenes = {
            n: e for n, e in samplers(experiment_of(workdir)).items() if isinstance(e, Scenes)
        }
        if not scenes:
            return {}
        return self.once(f"{workdir}, through the codec", identity(workdir), measure)["metrics"]

    def training_curve(self, workdir: Path, flops: tuple[float, float]) -> list[dict[str, Any]]:
        """Mean scores by cell of the first evaluator at each checkpoint, on fewer prompts, against
        training FLOPs and images. `flops` are those before this training, and those of an update.
        """
        directory, experiment = Workdir(workdir), experiment_of(workdir)
        evaluator = small(experiment)
        checkpoints = Checkpoints(directory.checkpoints, read_only=True)
        steps = checkpoints.steps()
        checkpoints.close()
        points = []
        for step in steps:

            def measure(step: int = step) -> dict[str, Any]:
                session = self._opened(workdir, True)
                state, _ = restore(directory, session.program, step)
                at = dataclasses.replace(session, params=state.best_params, step=step)
                return {"scores": means(evaluator.measured(at)[1])}

            decides = [identity(workdir), step, CURVE_PROMPTS]
            result = self.once(f"{workdir}, step {step}", decides, measure)
            spent = {
                "flops": flops[0] + step * flops[1],
                "images": step * experiment.training.batch_size,
            }
            points.append({"step": step, **spent, "scores": result["scores"]})
        return points

    def sampling_curve(
        self, workdir: Path, settings: Sequence[Mapping[str, object]]
    ) -> list[dict[str, Any]]:
        """Scores against the cost of a picture in FLOPs, evaluations of the network, and seconds:
        one point for each setting of the sampler."""
        experiment = experiment_of(workdir)
        evaluator, points = small(experiment), []
        for setting in settings:
            try:
                chosen = evaluator.with_sampling(**setting)
            except TypeError:
                raise UserError(
                    f"SAMPLING={dict(setting)!r}: the evaluator {type(evaluator).__name__.lower()}"
                    " has no such field; it has " + ", ".join(evaluator.settings())
                ) from None
            controls = chosen.controls(experiment.model)

            def measure(chosen: Any = chosen, controls: Any = controls) -> dict[str, Any]:
                session = self._opened(workdir, True)
                scores = means(chosen.measured(session)[1])
                candidates = chosen.best_of if isinstance(chosen, Reranking) else 1
                cost = {"flops": candidates * sampling_flops(session.program, controls)}
                cost["evaluations"] = candidates * evaluations(experiment, controls)
                return {
                    "scores": scores,
                    **cost,
                    "image_seconds": candidates * seconds(session, controls),
                }

            result = self.once(
                f"{workdir}, {dict(setting) or 'own sampler'}",
                [identity(workdir), setting, CURVE_PROMPTS],
                measure,
            )
            shown = {k: v for k, v in setting.items() if k != "ranker"}
            points.append({"setting": shown, **result})
        return points

    def compiled_flops(self, program: Program) -> float:
        """FLOPs of an update after compilation for this machine's devices."""

        def measure() -> dict[str, Any]:
            text = lower_train_step(program).compile().as_text() or ""
            return {"flops": counting.count(parse(text), program.sizes).total_flops}

        return self.once(
            "compiled update",
            [program.experiment.hash, jax.__version__, jax.devices()[0].device_kind],
            measure,
        )["flops"]


def identity(workdir: Path) -> list[object]:
    """The values that determine a run's numbers: the hash of its config, its evaluators, its steps,
    its codec and its newest checkpoint."""
    record = Workdir(workdir).read()
    config = record.config
    steps = sorted(int(p.name) for p in (workdir / "checkpoints").glob("*") if p.name.isdigit())
    return [
        record.hash,
        config["evals"],
        config["training"]["steps"],
        record.codec_hash,
        steps[-1:],
    ]


def pictures_of(workdir: Path) -> str:
    """The directory of a run's pictures: its name without a slash."""
    return "_".join(workdir.parts[-2:]).lstrip("/")


def experiment_of(workdir: Path) -> Experiment:
    """The run's experiment, without its parameters."""
    return build_experiment(Workdir(workdir).read().config)


def samplers(experiment: Experiment) -> dict[str, Any]:
    """The run's evaluators that sample."""
    return {name: e for name, e in experiment.evals.items() if isinstance(e, Paired)}


def small(experiment: Experiment) -> Any:
    """The evaluator of the curves: the run's first evaluator that samples, on fewer prompts."""
    return next(iter(samplers(experiment).values())).fewer(CURVE_PROMPTS)


def evaluations(experiment: Any, controls: Any) -> int:
    """Calls of the network for one picture; guidance doubles them."""
    generator = experiment.model
    if isinstance(generator, Stepwise):
        steps = len(generator.sampling_schedule(controls).times)
    else:
        steps = math.prod(experiment.image_codec.grid)
    return steps * (1 if controls.guidance == 1 else 2)


def sampling_flops(program: Program, controls: Any) -> float:
    """FLOPs of one picture, counted in the traced program of the sampler and the codec."""
    experiment, rows = program.experiment, program.batch_shards
    generator = cast(Generator, experiment.model)

    def sample(params: Any, frozen: Any, text: Any) -> Any:
        keys = jax.random.split(jax.random.key(0), rows)
        return experiment.space.decode(frozen, generator.sample(params, text, keys, controls))

    text = jax.ShapeDtypeStruct((rows, experiment.data.text.length), np.int32)
    return program.flops(sample, program.state_shape.params, program.frozen_shapes(), text) / rows


def seconds(session: Session, controls: object) -> float:
    """Wall-clock seconds a picture, with TIMED_PICTURES sampled at once by programs that are
    already compiled."""
    prompts = [f"{k}" for k in range(TIMED_PICTURES)]
    session.sample(prompts, controls)
    began = time.monotonic()
    session.sample(prompts, controls)
    return (time.monotonic() - began) / TIMED_PICTURES


def as_columns(scored: Sequence[Scored]) -> dict[str, dict[str, Any]]:
    """{cell: {"score", "parts", "language", "prompt"}}: columns with one entry for each prompt."""
    out: dict[str, dict[str, Any]] = {}
    for s in scored:
        columns = out.setdefault(s.cell, {"score": [], "language": [], "prompt": [], "parts": {}})
        columns["score"].append(s.score)
        columns["language"].append(s.language)
        columns["prompt"].append(s.prompt)
        for part, value in s.parts.items():
            columns["parts"].setdefault(part, []).append(value)
    return out


def means(scored: Sequence[Scored]) -> dict[str, float]:
    """The mean score of each cell, over the prompts whose score could be determined."""
    columns = {
        cell: [s for s in c["score"] if s is not None] for cell, c in as_columns(scored).items()
    }
    return {cell: float(np.mean(scores)) for cell, scores in columns.items() if scores}


def protocols(experiment: Experiment) -> dict[str, Any]:
    """The protocols of the experiment's evaluators that sample, by name."""
    return {n: e.protocol() for n, e in samplers(experiment).items()}
