"""vilg evaluate: runs every evaluator of the config, or the evaluators of --evals, and writes JSON:
{"metrics": {...}, "protocol": {...}}.

With --guidance=1,1.5,2,3 the evaluators that sample run once for each value, on the same prompts
and seeds; the JSON then has "guidance", a list of {"guidance", "metrics"}, and a plot of quality
against guidance is written beside it. With --best_of=N --ranker=WORKDIR the evaluators that can
rerank score the best of N samples of each prompt."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from rich.console import Console
from rich.table import Table

from vilg.api import load
from vilg.config import require
from vilg.evals.base import Evaluator, Reranking, Sampling
from vilg.evals.numbers import flat, results_of
from vilg.run.terminal.outputs import output_file
from vilg.types import Model, UserError
from vilg.workdir.reranking import check_request
from vilg.workdir.session import Session


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    parser.add_argument("--workdir", required=True, help="workdir of the run")
    parser.add_argument(
        "--evals",
        default="",
        help="evaluators joined by commas (default: all evaluators of the config)",
    )
    parser.add_argument(
        "--guidance",
        default="",
        metavar="W,W,...",
        help="values of guidance to evaluate and plot quality against, such as 1,1.5,2,3",
    )
    parser.add_argument(
        "--best_of",
        type=int,
        metavar="N",
        help="samples of each prompt, of which the one that --ranker scores highest is evaluated",
    )
    parser.add_argument(
        "--ranker",
        default="",
        metavar="WORKDIR",
        help="workdir of a dual encoder's run (experiments/ranker.py)",
    )
    parser.add_argument("--out", required=True, help="a .json file")
    parser.add_argument(
        "--raw",
        action="store_true",
        help="uses the last parameters instead of their moving average",
    )


def main(args: argparse.Namespace, config: Any) -> int:
    """Evaluates the run, prints a table, and writes the JSON and the plot."""
    out = output_file(args.out, ".json")
    values = guidances(args.guidance)
    picture = curve_file(out, values)
    run = load(args.workdir, ema=not args.raw)
    session = run.session
    evals = run.evaluators(args.evals.split(",") if args.evals else ())
    chosen = reranked(session, evals, args.best_of, args.ranker)
    swept = sweep(chosen, values, session.experiment.model)
    once = {n: e for n, e in chosen.items() if not (values and isinstance(e, Sampling))}
    result: dict[str, Any] = {
        "metrics": results_of(once, session),
        "protocol": run.protocol(chosen),
    }
    if values:
        result["guidance"] = []
        result["protocol"] |= {
            name: {**evaluator.protocol(), "guidance": values}
            for name, evaluator in swept[0].items()
        }
        for value, evaluators in zip(values, swept, strict=True):
            metrics = results_of(evaluators, session, f" at guidance {value:g}")
            result["guidance"].append({"guidance": value, "metrics": metrics})
            write(out, result)  # after every value, so that a stopped sweep leaves its results
    write(out, result)
    show(result, f"{args.workdir} at step {session.step}")
    if picture is not None:
        from vilg.report.guidance import draw_guidance

        draw_guidance(result["guidance"], picture, f"{args.workdir} at step {session.step}")
        Console().print(f"quality against guidance: {picture}")
    return 0


def reranked(
    session: Session, evals: Mapping[str, Evaluator], best_of: int | None, ranker: str
) -> dict[str, Evaluator]:
    """The evaluators, of which those that can rerank do so.

    Errors: UserError for one of the two options without the other, for a workdir that is not a
    ranker's, and where no evaluator can rerank."""
    check_request(best_of, ranker)
    if best_of is None:
        return dict(evals)
    session.ranking(ranker)
    can_rerank = any(isinstance(e, Reranking) for e in evals.values())
    remedy = f"none of {', '.join(evals)} reranks; choose evals that do, or leave it out"
    require(can_rerank, "best_of", best_of, remedy)
    return {
        name: e.with_ranker(best_of, ranker) if isinstance(e, Reranking) else e
        for name, e in evals.items()
    }


def guidances(text: str) -> list[float]:
    """The values of --guidance. Errors: UserError for text that is not a number, and for repeated
    values."""
    values = []
    for word in filter(None, (w.strip() for w in text.split(","))):
        try:
            values.append(float(word))
        except ValueError:
            raise UserError(
                f"guidance={word!r}: is not a number; give values joined by commas, such as"
                " 1,1.5,2,3"
            ) from None
    if text and (not values or len(set(values)) < len(values)):
        raise UserError(
            f"guidance={text!r}: give different values joined by commas, such as 1,1.5,2,3"
        )
    return values


def curve_file(out: Path, values: Sequence[float]) -> Path | None:
    """The path of the plot, beside the JSON; None where there are no values."""
    if not values:
        return None
    if out.suffix == ".png":
        raise UserError(
            f"out={str(out)!r}: is the path of the plot of the guidances; give a .json file"
        )
    return output_file(str(out.with_suffix(".png")), ".png")


def sweep(
    evals: Mapping[str, Evaluator], values: Sequence[float], generator: Model
) -> list[dict[str, Sampling]]:
    """For each value, the evaluators that sample, with that guidance and without captions.

    Errors: UserError where the generator refuses a value, or no evaluator samples."""
    sampling = {n: e for n, e in evals.items() if isinstance(e, Sampling)}
    if values and not sampling:
        raise UserError(
            f"guidance={','.join(f'{v:g}' for v in values)}: none of {', '.join(evals)} samples;"
            " choose evals that do, or leave it out"
        )
    swept = []
    for value in values:
        # guidance does not apply to captions
        point = {
            name: cast(Sampling, e.with_sampling(guidance=value).without_captions())
            for name, e in sampling.items()
        }
        for name, evaluator in point.items():
            evaluator.check(generator, f"evals.{name}")
        swept.append(point)
    return swept


def write(out: Path, result: Mapping[str, object]) -> None:
    """Writes the JSON."""
    out.write_text(json.dumps(result, indent=1, ensure_ascii=False))


def show(result: Mapping[str, Any], title: str) -> None:
    """Prints the numbers as a table, with a column for each guidance where there are several."""
    points = result.get("guidance", [])
    if result["metrics"] or not points:
        table = Table("metric", "value", title=title)
        for name, value in flat(result["metrics"]).items():
            table.add_row(name, f"{value:.4f}")
        Console().print(table)
    if points:
        table = Table("metric", *(f"guidance {p['guidance']:g}" for p in points), title=title)
        columns = [flat(p["metrics"]) for p in points]
        # Not every guidance has every metric: a share of zero cases is not a number.
        for name in dict.fromkeys(n for c in columns for n in c):
            table.add_row(name, *(f"{c[name]:.4f}" if name in c else "-" for c in columns))
        Console().print(table)
