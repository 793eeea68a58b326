"""What `vilg compare` measures of a run, each kept in a file by what decides it, so that a comparison that was stopped goes on.

Separate from the verb, which knows which runs there are; here is one run at a time: its scores, what they would be through a perfect
generator, how they rise with training, and what they cost in sampling.
"""

import dataclasses
import functools
import hashlib
import itertools
import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vilg.evals.base import Sampling
from vilg.evals.scenes import Scenes, Trial, summarize
from vilg.metrics.paired import holm, paired
from vilg.parallel import costs as counting
from vilg.parallel.hlo import parse
from vilg.program import Program
from vilg.run.sample import write_samples
from vilg.run.session import Sampled, Session, open_session, restore
from vilg.run.workdir import Workdir
from vilg.training.checkpoint import Checkpoints
from vilg.types import Stepwise, UserError

POINTS = 4  # checkpoints before the last one, on the curve of training
SMALL = 64  # scenes a cell on curves
SHOWN = 12  # prompts on the page
TIMED = 64  # pictures that are timed at once


class Measures:
    """Measurements under DIR/measured, by name and a hash of what decides them."""

    def __init__(self, out: Path, quiet: bool = False):
        self.out, self.quiet = out, quiet
        self.kept = out / "measured"

    def once(self, what: str, decides: Any, measure: Callable[[], Any]) -> Any:
        """The stored result, or `measure` called and its result stored."""
        mark = hashlib.sha256(json.dumps([what, decides], sort_keys=True, default=str).encode()).hexdigest()[:20]
        place = self.kept / f"{mark}.json"
        if place.is_file():
            return json.loads(place.read_text())
        began = time.monotonic()
        result = measure()
        if not self.quiet:
            print(f"{what}: measured in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        self.kept.mkdir(parents=True, exist_ok=True)
        temporary = place.with_suffix(".tmp")
        temporary.write_text(json.dumps({"what": what} | result, ensure_ascii=False))
        temporary.replace(place)
        return json.loads(place.read_text())

    def final(self, workdir: Path, ema: bool) -> dict[str, Any]:
        """{"metrics": {evaluator: numbers}, "trials": {cell: columns}} of the newest checkpoint."""

        def measure() -> dict[str, Any]:
            session = opened(workdir, ema)
            metrics, columns = {}, {}
            for name, evaluator in samplers(session).items():
                if isinstance(evaluator, Scenes):
                    trials = evaluator.trials(session)
                    metrics[name] = summarize(trials)
                    columns |= as_columns(trials)
                    if ema:
                        self._keep_pictures(workdir, trials, evaluator.seed)
                else:
                    metrics[name] = evaluator(session)
            return {"metrics": metrics, "trials": columns}

        return self.once(f"{workdir}, {'ema' if ema else 'raw'}", [identity(workdir), ema, pictures_of(workdir)], measure)

    def _keep_pictures(self, workdir: Path, trials: Sequence[Trial], seed: int) -> None:
        made = [t for t in trials if t.kind == "sample"]
        extra = [{"cell": t.cell, "right": t.right, "scene": t.scene.to_dict()} for t in made]
        sampled = [Sampled(t.prompt, t.language, seed, False, t.image) for t in made]
        write_samples(self.out / "samples" / pictures_of(workdir), sampled, 16, extra)

    def pictures(self, workdir: Path) -> list[dict[str, Any]]:
        """The first samples of each cell, as lines of samples.jsonl with the path of the picture."""
        place = self.out / "samples" / pictures_of(workdir)
        if not (place / "samples.jsonl").is_file():
            return []
        lines = [json.loads(line) for line in (place / "samples.jsonl").read_text().splitlines()]
        chosen = [line for cell in dict.fromkeys(x["cell"] for x in lines) for line in [x for x in lines if x["cell"] == cell][:SHOWN]]
        fields = ("prompt", "language", "cell", "right")
        return [{k: line[k] for k in fields} | {"file": f"samples/{pictures_of(workdir)}/{line['file']}"} for line in chosen]

    def ceiling(self, workdir: Path) -> dict[str, Any]:
        """Scores of the true pictures after the codec: what a perfect generator would get."""

        def measure() -> dict[str, Any]:
            session = opened(workdir, True)
            found = {n: summarize(e.ceiling(session)) for n, e in samplers(session).items() if isinstance(e, Scenes)}
            return {"metrics": found}

        return self.once(f"{workdir}, through the codec", identity(workdir), measure)["metrics"]

    def training_curve(self, workdir: Path, flops: tuple[float, float]) -> list[dict[str, Any]]:
        """Scores of the first evaluator of scenes at each checkpoint, on fewer scenes, against training FLOPs and images."""
        session = opened(workdir, True)
        evaluator = small(session)
        if evaluator is None:
            return []
        directory, experiment = Workdir(workdir), session.experiment
        checkpoints = Checkpoints(directory.checkpoints, read_only=True)
        steps = checkpoints.steps()
        checkpoints.close()
        points = []
        for step in steps:

            def measure(step: int = step) -> dict[str, Any]:
                state, _ = restore(directory, session.program, step)
                at = dataclasses.replace(session, params=state.best_params, step=step)
                return {"metrics": evaluator(at)}

            found = self.once(f"{workdir}, step {step}", [identity(workdir), step, SMALL], measure)
            spent = {"flops": flops[0] + step * flops[1], "images": step * experiment.training.batch_size}
            points.append({"step": step, **spent, "metrics": found["metrics"]})
        return points

    def sampling_curve(self, workdir: Path, settings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Scores against what a picture costs: FLOPs, evaluations of the network, seconds; one point a setting of the sampler."""
        session = opened(workdir, True)
        evaluator = small(session)
        if evaluator is None:
            return []
        points = []
        for setting in settings:
            try:
                chosen = dataclasses.replace(evaluator, **setting)
            except TypeError:
                raise UserError(f"SAMPLING={dict(setting)!r}: evals.scenes has no such field; it has those of its class") from None
            controls = chosen.controls(session.experiment.generator)

            def measure(chosen: Any = chosen, controls: Any = controls) -> dict[str, Any]:
                metrics, candidates = chosen(session), getattr(chosen, "best_of", 1)
                cost = {"flops": candidates * sampling_flops(session.program, controls)}
                cost["evaluations"] = candidates * evaluations(session.experiment, controls)
                return {"metrics": metrics, **cost, "image_seconds": candidates * seconds(session, controls)}

            found = self.once(f"{workdir}, {dict(setting) or 'own sampler'}", [identity(workdir), setting, SMALL], measure)
            points.append({"setting": {k: v for k, v in setting.items() if k != "ranker"}, **found})
        return points

    def compiled_flops(self, program: Program) -> float:
        """FLOPs of an update as compiled for this machine's devices."""

        def measure() -> dict[str, Any]:
            text = program.lower_train_step().compile().as_text()
            return {"flops": counting.count(parse(text), program.sizes).total_flops}

        return self.once("compiled update", [program.experiment.hash, jax.__version__, jax.devices()[0].device_kind], measure)["flops"]


@functools.lru_cache(maxsize=1)
def loaded(workdir: Path) -> Session:
    """The run's session, the last one kept."""
    jax.clear_caches()
    open_session.cache_clear()
    return open_session(str(workdir))


def opened(workdir: Path, ema: bool) -> Session:
    """The run's session, with the moving average of its parameters or without; both use the same compiled programs."""
    session = loaded(workdir)
    if ema or not session.experiment.training.ema:
        return session
    state, _ = restore(Workdir(workdir), session.program)
    return dataclasses.replace(session, params=state.params)


def identity(workdir: Path) -> list[Any]:
    """What decides a run's numbers: its config with its evaluators, its codec and its newest step."""
    stored = Workdir(workdir).read()
    config = stored["config"]
    steps = sorted(int(p.name) for p in (workdir / "checkpoints").glob("*") if p.name.isdigit())
    return [stored.get("hash"), config["evals"], config["training"]["steps"], stored.get("codec_hash"), steps[-1:]]


def pictures_of(workdir: Path) -> str:
    """The directory of a run's pictures: its name without a slash."""
    return "_".join(workdir.parts[-2:]).lstrip("/")


def samplers(session: Session) -> dict[str, Any]:
    """The run's evaluators that sample."""
    return {name: e for name, e in session.experiment.evals.items() if isinstance(e, Sampling)}


def small(session: Session) -> Scenes | None:
    """The evaluator of curves: the run's first of scenes, on fewer of the seen ones, without captions."""
    found = next((e for e in samplers(session).values() if isinstance(e, Scenes)), None)
    if found is None:
        return None
    seen = tuple(c for c in found.cells if not c.startswith("held_out"))
    return dataclasses.replace(found, n=min(found.n, SMALL), captions=False, cells=seen or found.cells)


def evaluations(experiment: Any, controls: Any) -> int:
    """Calls of the network for a picture; guidance calls it twice."""
    generator = experiment.generator
    steps = len(generator.plan(controls).times) if isinstance(generator, Stepwise) else math.prod(experiment.codec.grid)
    return steps * (1 if controls.guidance == 1 else 2)


def sampling_flops(program: Program, controls: Any) -> float:
    """FLOPs of one picture as it is traced: of the sampler, and of the codec that decodes it."""
    experiment, rows = program.experiment, program.batch_shards

    def draw(params: Any, frozen: Any, text: Any) -> Any:
        keys = jax.random.split(jax.random.key(0), rows)
        return experiment.space.decode(frozen, experiment.generator.sample(params, text, keys, controls))

    text = jax.ShapeDtypeStruct((rows, experiment.data.text.length), np.int32)
    return program.flops(draw, program.state_shape.params, program.frozen_shapes(), text) / rows


def seconds(session: Session, controls: Any) -> float:
    """Wall seconds a picture, TIMED at once, the programs compiled before."""
    prompts = [f"{k}" for k in range(TIMED)]
    session.sample(prompts, controls)
    began = time.monotonic()
    session.sample(prompts, controls)
    return (time.monotonic() - began) / TIMED


def as_columns(trials: Sequence[Trial]) -> dict[str, dict[str, Any]]:
    """{cell: {"right", "parts", "language", "prompt"}} of samples, one entry a trial."""
    out: dict[str, dict[str, Any]] = {}
    for t in trials:
        if t.kind == "sample":
            columns = out.setdefault(t.cell, {"right": [], "language": [], "prompt": [], "parts": {}})
            columns["right"].append(int(t.right))
            columns["language"].append(t.language)
            columns["prompt"].append(t.prompt)
            for part, value in t.parts.items():
                columns["parts"].setdefault(part, []).append(int(value))
    return out


def pairs(finals: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Every two contenders on every cell, in all and by language, and by what a picture of two objects has to get right."""
    rows = []
    for a, b in itertools.combinations(finals, 2):
        first, second = ([r["trials"] for r in finals[name]] for name in (a, b))
        for cell in first[0]:
            if any(t[cell]["prompt"] != first[0][cell]["prompt"] for t in (*first, *second)):
                raise UserError(f"evals.scenes: {a} and {b} were asked different prompts in {cell}; evaluate both with the same version")
            columns = [[t[cell] for t in side] for side in (first, second)]
            languages = np.array(columns[0][0]["language"])
            rows.append(row(a, b, cell, "all", *([np.array(c["right"]) for c in side] for side in columns)))
            for language in sorted(set(languages.tolist())):
                chosen = languages == language
                rows.append(row(a, b, cell, language, *([np.array(c["right"])[chosen] for c in side] for side in columns)))
            if "two" in cell:
                for part in columns[0][0]["parts"]:
                    rows.append(row(a, b, f"{cell}/{part}", "all", *([np.array(c["parts"][part]) for c in side] for side in columns)))
    corrected = holm([r["p"] for r in rows])
    verdicts = [{"p_holm": p, "verdict": r.pop("found").verdict(p)} for r, p in zip(rows, corrected, strict=True)]
    return [r | v for r, v in zip(rows, verdicts, strict=True)]


def row(a: str, b: str, what: str, language: str, ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> dict[str, Any]:
    """One row of the table of wins."""
    first, second = np.stack(ours).astype(np.float64), np.stack(theirs).astype(np.float64)
    found = paired(first, second)
    fields = {f.name: getattr(found, f.name) for f in dataclasses.fields(found)}
    scores = {"score_a": float(first.mean()), "score_b": float(second.mean()), "n": int(first.shape[1])}
    return {"a": a, "b": b, "what": what, "language": language, **scores, **fields, "found": found}
