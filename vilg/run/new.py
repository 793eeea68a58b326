"""vilg new: writes an experiment for pictures of your own.

The source is looked at first: how many pictures it has, how large they are, how long its captions
are. The file that comes out names the source once, keeps some of the pictures for validation, and
holds the few fields that depend on the data; `vilg config show --config=FILE.py` prints all others.
A folder needs a captions.jsonl with a line for each picture:

  {"image": "images/1.jpg", "captions": [{"text": "a cake on a table", "language": "en"}]}"""

import argparse
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vilg.config import lookup, require
from vilg.data.convert import stats
from vilg.data.sources import caption_texts, parse_source
from vilg.experiment import build_experiment
from vilg.experiment_file import load_config
from vilg.run.terminal.outputs import counted
from vilg.types import UserError

LOOKED_AT = 1000  # records that are read to know the source
FEWEST = 20  # pictures, below which there is nothing to validate on
SIZES = (64, 32)  # pixels that are chosen; larger ones take a GPU, so a person asks for those
UNIT = 32  # pixels of which the size is a multiple; the generator has 8 x 8 positions at any size


class Scale(NamedTuple):
    """What the number of pictures decides. The updates are a start: a run can be made longer."""

    pictures: float  # below which the line holds
    vocabulary: int
    codec_steps: int
    steps: int


SCALES = (
    Scale(1_000, vocabulary=600, codec_steps=1_000, steps=1_000),
    Scale(10_000, vocabulary=4_000, codec_steps=2_500, steps=4_000),
    Scale(math.inf, vocabulary=8_000, codec_steps=5_000, steps=20_000),
)


class Recipe(NamedTuple):
    """A packaged experiment to start from, and the lines that fit it to pictures of another size
    and to other captions."""

    base: str
    lines: str


RECIPES: dict[str, Recipe] = {
    "diffusion": Recipe(
        "ernie_vilg2:emoji",
        "    config.generator.denoiser.patch = {patch}  # codes in a row of a token\n"
        "    config.evals = dict(losses=dict(batches=4, batch_size={rows}),"
        " caption_gap=dict(records={records}))\n",
    ),
    "autoregressive": Recipe(
        "ernie_vilg:emoji",
        "    config.codec.experiment.codec.architecture.patch = {pixels}  # pixels, a code\n"
        "    config.evals = dict(losses=dict(batches=4, batch_size={rows}))\n",
    ),
}
FILE = '''"""{title}

    vilg train --config={out} --workdir=runs/{stem}
    vilg sample --workdir=runs/{stem} --num=8 --out=runs/{stem}/pictures \\
        --prompt="{prompt}"
    vilg evaluate --workdir=runs/{stem} --out=runs/{stem}/scores.json

Written by `vilg new` from the packaged experiment {base}: here are the fields that depend
on the data. `vilg config show --config={out}` prints every field with its help."""

from ml_collections import ConfigDict

from vilg.experiment_file import load_config

SOURCE = {source}


def get_config() -> ConfigDict:
    """{base} on SOURCE: of every {every} pictures the last one is for validation."""
    config = load_config("{base}")
    for data in (config.data, config.codec.experiment.data):
        data.train = ConfigDict(dict(name="split", of=SOURCE, part="train", every={every}))
        data.valid = ConfigDict(dict(name="split", of=SOURCE, part="valid", every={every}))
    config.data.text = dict(vocabulary={vocabulary}, length={length})  # ids; ids of a caption
    config.codec.floors = {{}}
    config.codec.experiment.codec.image_size = {size}
    config.codec.experiment.training.steps = {codec_steps}
{lines}    config.training.steps = {steps}
    return config
'''


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("--source", required=True, metavar="KIND:PATH", help="such as folder:DIR")
    parser.add_argument("--out", required=True, metavar="FILE.py", help="the new experiment")
    parser.add_argument(
        "--generator", default="diffusion", help=f"{' or '.join(RECIPES)} (default: %(default)s)"
    )
    parser.add_argument(
        "--image_size",
        type=int,
        default=0,
        help="pixels, a multiple of 32 (default: by the source)",
    )


def main(args: argparse.Namespace, config: object) -> int:
    """Writes the file; exit code 0."""
    recipe = lookup(RECIPES, args.generator, "generator")
    require(args.out.endswith(".py"), "out", args.out, "give a new file, such as --out=mine.py")
    out = Path(args.out)
    require(not out.exists(), "out", args.out, "is there already; give a new file")
    fits = args.image_size >= 0 and args.image_size % UNIT == 0
    require(fits, "image_size", args.image_size, f"must be a multiple of {UNIT}")
    source = parse_source(args.source)
    found = stats(source, LOOKED_AT)
    check(args.source, found)
    prompt = next(iter(caption_texts(source, 1)), "")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(experiment(args, recipe, found, prompt), encoding="utf-8")
    try:
        build_experiment(load_config(args.out))
    except UserError:
        out.unlink()
        raise
    print(
        f"{args.out}: {title(args.source, found)}\n"
        f"vilg train --config={args.out} --workdir=runs/{out.stem}"
    )
    return 0


def check(source: str, found: Mapping[str, Any]) -> None:
    """Errors: UserError for a source of too few pictures, or of more bad records than good."""
    remedy = f"has {counted(found['records'], 'picture')}; {FEWEST} are the fewest"
    require(found["records"] >= FEWEST, "source", source, remedy)
    first = next(iter(found["first_bad"].items()), ("", ""))
    remedy = f"{found['bad']} of {found['good'] + found['bad']} records are bad; the first: {first}"
    require(found["good"] > found["bad"], "source", source, remedy)


def experiment(
    args: argparse.Namespace, recipe: Recipe, found: Mapping[str, Any], prompt: str
) -> str:
    """The text of the experiment's file."""
    number = found["records"]
    scale = next(scale for scale in SCALES if number < scale.pictures)
    every = 10 if number < SCALES[0].pictures else 20
    side = found["short_side"]["median"]
    size = args.image_size or next((size for size in SIZES if size <= side), SIZES[-1])
    held_out = number // every  # validation pictures, of which every evaluator needs a batch
    fields = dict(patch=size // UNIT, pixels=size // 8)
    fields |= dict(rows=min(64, held_out), records=min(512, held_out))
    return FILE.format(
        title=title(args.source, found),
        out=args.out,
        stem=Path(args.out).stem,
        prompt=re.sub(r"[^\w ,.\-]", "", prompt).strip(),
        base=recipe.base,
        source=json.dumps(args.source, ensure_ascii=False),
        every=every,
        vocabulary=scale.vocabulary,
        length=caption_ids(found["caption_characters"]),
        size=size,
        codec_steps=scale.codec_steps,
        lines=recipe.lines.format(**fields),
        steps=scale.steps,
    )


def title(source: str, found: Mapping[str, Any]) -> str:
    """What the source is, in a sentence."""
    languages = [name for name, n in found["captions_by_language"].items() if n]
    each = found["captions"] / found["good"]
    return (
        f"{counted(found['records'], 'picture')} of {source} ({found['short_side']['median']:.0f}"
        f" pixels at the short side, {each:.1f} captions each: {', '.join(languages)})."
    )


def caption_ids(characters: Mapping[str, Mapping[str, float]]) -> int:
    """Ids of a caption, in eights, that hold 95 of 100 captions: an id is about one Chinese
    character, or two and a half English letters where the text model is small."""
    letters = {"zh": 1.0, "en": 2.5}
    longest = max(found["p95"] / letters[language] for language, found in characters.items())
    return min(64, max(16, 8 * math.ceil((longest + 2) / 8)))
