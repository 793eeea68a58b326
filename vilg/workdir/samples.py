"""The files of sampled pictures: the pictures, a grid of them, and samples.jsonl."""

import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from vilg.data.show import sheet
from vilg.types import UserError
from vilg.workdir.session import Sampled


def samples_of(out: Path) -> list[Path]:
    """The pictures of an earlier call, as its samples.jsonl names them. Errors: UserError for a
    samples.jsonl that `vilg sample` has not written.
    """
    if not (out / "samples.jsonl").is_file():
        return []
    pictures = []
    for number, line in enumerate((out / "samples.jsonl").read_bytes().splitlines(), 1):
        try:
            pictures.append(out / Path(json.loads(line)["file"]).name)
        except (ValueError, KeyError, TypeError):
            raise UserError(
                f"out={str(out)!r}: line {number} of its samples.jsonl is not of `vilg sample`;"
                " give another --out"
            ) from None
    return pictures


def write_samples(
    out: Path, samples: Sequence[Sampled], columns: int, extra: Sequence[dict] | None = None
) -> list[str]:
    """Writes the pictures, a grid and samples.jsonl in place of an earlier call's, and returns the
    names of the pictures' files. `extra` has one dict a picture, whose fields are added to the
    picture's line.
    """
    out.mkdir(parents=True, exist_ok=True)
    for file in samples_of(out):
        file.unlink(missing_ok=True)
    files = [f"{i:05d}.png" for i in range(len(samples))]
    lines = []
    for i, (file, sample) in enumerate(zip(files, samples, strict=True)):
        Image.fromarray(sample.image).save(out / file)
        line = {
            "prompt": sample.prompt,
            "file": file,
            "seed": sample.seed,
            "language": sample.language,
            "score": sample.score,
        }
        if sample.candidates:
            line["candidates"] = [
                {"seed": seed, "score": score} for seed, score in sample.candidates
            ]
        lines.append(line | {"truncated": bool(sample.truncated)} | (extra[i] if extra else {}))
    labelled = [
        {"image": s.image, "captions": [{"language": s.language, "text": s.prompt}]}
        for s in samples
    ]
    sheet(labelled, columns).save(out / "grid.png")
    (out / "samples.jsonl").write_text(
        "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    )
    return files
