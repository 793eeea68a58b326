"""vilg caption: captions of images, in each language of --language.

Writes a JSON line for each image: image (its path), captions (text, language), scores (the
log-likelihood of each caption, in nats)."""

import argparse
import json
import sys

import numpy as np

from vilg.api import load
from vilg.data.records import LANGUAGES, BadRecord, check_known_languages, decode_image, to_square
from vilg.generators.guidance import Controls
from vilg.run.terminal.inputs import find_images
from vilg.run.terminal.outputs import counted, output_file
from vilg.types import Captioner, UserError

IMAGES_AT_ONCE = 256  # images that are held in memory together


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    parser.add_argument(
        "--workdir", required=True, help="workdir of a run whose generator can caption"
    )
    parser.add_argument("--images", required=True, help="a directory, a file or a glob of images")
    parser.add_argument(
        "--language",
        default=",".join(LANGUAGES),
        help="languages of the captions: zh, en or both, joined by commas",
    )
    parser.add_argument("--out", required=True, help="a .jsonl file")
    parser.add_argument(
        "--temperature", type=float, default=0.0, help="0 (default) takes the likeliest token"
    )
    parser.add_argument(
        "--top_k", type=int, default=0, help="keeps the k likeliest tokens (0: all)"
    )
    parser.add_argument(
        "--top_p", type=float, default=1.0, help="keeps the likeliest tokens of this mass (1: all)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the captions")
    parser.add_argument(
        "--raw",
        action="store_true",
        help="uses the last parameters instead of their moving average",
    )


def main(args: argparse.Namespace, config: object) -> int:
    """Captions the images and writes the JSON lines."""
    languages = args.language.split(",")
    check_known_languages(languages)
    out = output_file(args.out, ".jsonl")
    paths = find_images(args.images)
    controls = Controls(temperature=args.temperature, top_k=args.top_k, top_p=args.top_p)
    session = load(args.workdir, ema=not args.raw).session
    session.require(Captioner)
    bad = written = 0
    temporary = out.with_name(out.name + ".tmp")
    with temporary.open("w") as file:
        for i in range(0, len(paths), IMAGES_AT_ONCE):
            good, images = [], []
            for path in paths[i : i + IMAGES_AT_ONCE]:
                try:
                    image = decode_image(str(path), path.read_bytes())
                    images.append(to_square(image, session.experiment.image_codec.image_size))
                    good.append(path)
                except (BadRecord, OSError) as error:
                    bad += 1
                    reason = error.reason if isinstance(error, BadRecord) else error
                    print(f"vilg caption: skipped {path}: {reason}", file=sys.stderr)
            if not good:
                continue
            by_language = [
                session.caption(np.stack(images), [g] * len(images), controls, args.seed)
                for g in languages
            ]
            for path, *captions in zip(good, *by_language, strict=True):
                line = {
                    "image": str(path),
                    "captions": [{"text": c.text, "language": c.language} for c in captions],
                    "scores": [c.score for c in captions],
                }
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
                written += 1
    if not written:
        temporary.unlink()
        raise UserError(
            f"images={args.images!r}: none of {len(paths)} files is a picture; give a directory or"
            " glob of pictures"
        )
    temporary.replace(out)
    print(f"{counted(written, 'image')} captioned in {out}" + (f", {bad} skipped" if bad else ""))
    return 0
