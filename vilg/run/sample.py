"""vilg sample: images from prompts.

Writes OUT/*.png, OUT/grid.png (each picture over its prompt) and OUT/samples.jsonl (prompt, file, seed, language, score, truncated). A
prompt's picture depends on the prompt, the seed and the sampling options alone, not on the other prompts.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from vilg.data.prompts import Prompt, read_prompts
from vilg.data.records import detect_language
from vilg.data.show import sheet
from vilg.generators.guidance import Controls
from vilg.run.outputs import counted
from vilg.run.session import Sampled, Session, open_session
from vilg.types import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("--workdir", required=True, help="a generator's run")
    parser.add_argument("--prompt", action="append", default=[], help="a prompt; repeat for more")
    parser.add_argument("--prompts", help="prompts from a .txt, .csv, .tsv or .jsonl file")
    parser.add_argument("--column", default="", help="the column of --prompts that holds the prompt")
    parser.add_argument("--out", required=True, help="directory for the pictures")
    parser.add_argument("--num", type=int, default=1, help="pictures a prompt")
    parser.add_argument("--seed", type=int, default=0)
    add_controls(parser, guidance=2.0, temperature=0.8)
    parser.add_argument("--raw", action="store_true", help="the last parameters instead of their moving average")


def add_controls(parser: argparse.ArgumentParser, guidance: float, temperature: float) -> None:
    """Options of Controls; a run's own evals.scenes section, where it has one, gives the defaults."""
    parser.add_argument("--guidance", type=float, help=f"classifier-free guidance, 1 is none (default: the config's, else {guidance})")
    parser.add_argument("--temperature", type=float, help=f"0 takes the likeliest token (default: the config's, else {temperature})")
    parser.add_argument("--top_k", type=int, help="keep the k likeliest tokens (0: all)")
    parser.add_argument("--top_p", type=float, help="keep the likeliest tokens of this mass (1: all)")
    parser.set_defaults(fallback=Controls(guidance, temperature))


def controls(args: argparse.Namespace, session: Session) -> Controls:
    """What was asked for, over the config's evals.scenes, over the verb's defaults."""
    scenes = session.experiment.evals.get("scenes")
    base = scenes.controls if scenes else args.fallback
    given = {f.name: getattr(args, f.name) for f in dataclasses.fields(Controls) if getattr(args, f.name) is not None}
    return dataclasses.replace(base, **given)


def main(args: argparse.Namespace, config: Any) -> int:
    """Samples and writes."""
    if args.num < 1:
        raise UserError(f"num={args.num}: give at least 1 picture a prompt")
    if not 0 <= args.seed <= 2**32 - args.num:
        raise UserError(f"seed={args.seed}: must be from 0 to 2**32 - num")
    if args.column and not args.prompts:
        raise UserError(f"column={args.column!r}: names a column of --prompts=FILE; give that too")
    prompts = [Prompt(p, detect_language(p), {}) for p in args.prompt]
    if args.prompts:
        prompts += read_prompts(args.prompts, args.column)
    if not prompts or any(not p.text.strip() for p in prompts):
        raise UserError("prompt is empty: give --prompt=TEXT (repeatable) or --prompts=FILE")
    for p in prompts:
        try:
            p.text.encode()
        except UnicodeEncodeError:
            raise UserError(f"prompt={p.text!r}: is not UTF-8; give text in that encoding") from None
    Path(args.out).mkdir(parents=True, exist_ok=True)
    session = open_session(args.workdir, ema=not args.raw)
    made = session.sample([p.text for p in prompts], controls(args, session), args.seed, [p.language for p in prompts], number=args.num)
    write_samples(Path(args.out), made, columns=args.num if args.num > 1 else min(8, len(made)))
    cut = list(dict.fromkeys(m.prompt for m in made if m.truncated))
    if cut:
        length = session.experiment.data.text.length
        print(f"vilg sample: cut {counted(len(cut), 'prompt')} longer than data.text.length={length}, the first: {cut[0]!r}", file=sys.stderr)
    print(f"{counted(len(made), 'picture')} in {args.out}, step {session.step} of {args.workdir}")
    return 0


def remove_samples(out: Path) -> None:
    """Removes the pictures of an earlier call: those that its samples.jsonl names."""
    if not (out / "samples.jsonl").is_file():
        return
    for line in (out / "samples.jsonl").read_text().splitlines():
        (out / Path(json.loads(line)["file"]).name).unlink(missing_ok=True)


def write_samples(out: Path, made: Sequence[Sampled], columns: int, extra: Sequence[dict] | None = None) -> list[str]:
    """The pictures, a grid and samples.jsonl (with the fields of `extra`, one dict a picture); their file names."""
    out.mkdir(parents=True, exist_ok=True)
    remove_samples(out)
    files = [f"{i:05d}.png" for i in range(len(made))]
    lines = []
    for i, (file, sample) in enumerate(zip(files, made, strict=True)):
        Image.fromarray(sample.image).save(out / file)
        line = {"prompt": sample.prompt, "file": file, "seed": sample.seed, "language": sample.language, "score": None}
        lines.append(line | {"truncated": bool(sample.truncated)} | (extra[i] if extra else {}))
    labelled = [{"image": m.image, "captions": [{"language": m.language, "text": m.prompt}]} for m in made]
    sheet(labelled, columns).save(out / "grid.png")
    (out / "samples.jsonl").write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return files
