"""What `vilg judge --samples` reads: pictures of prompts, captions of pictures, answers about
pictures, joined across models.

Separate from the study made of them (study.py). Directories are `vilg sample`'s or anybody's with a
samples.jsonl (prompt, file); files of captions and answers are JSON lines whose pictures are looked
for from here and from beside the file."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vilg.data.records import LANGUAGES, detect_language
from vilg.run.terminal.outputs import counted
from vilg.types import UserError


@dataclass(frozen=True)
class Output:
    """What one model made of one prompt. `texts` is what a rater reads with the picture, `prompt`
    the unit that intervals are over.
    """

    picture: Path
    texts: dict[str, str]
    language: str
    prompt: str
    category: str = ""


Key = tuple[str, ...]
Outputs = dict[Key, Output]


def model_names(paths: Sequence[str]) -> list[str]:
    """The shortest ends of the paths that tell them apart. Errors: UserError for the same path
    twice.
    """
    places = [Path(p).resolve() for p in paths]
    parts = [(p.with_suffix("") if p.suffix == ".jsonl" else p).parts for p in places]
    for length in range(1, max(map(len, parts), default=0) + 1):
        names = ["/".join(p[-length:]) for p in parts]
        if len(set(names)) == len(names):
            return names
    raise UserError(
        f"samples={','.join(paths)!r}: the same path comes twice; give each model's once"
    )


def rows(path: Path, what: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The numbered objects of a file of JSON lines. Errors: UserError, with the line."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UserError(f"samples={str(path)!r}: cannot be read ({said}); give {what}") from None
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                raise UserError(
                    f"samples={str(path)!r}: line {number} is not JSON ({error}); mend it"
                ) from None
            if not isinstance(row, dict):
                raise UserError(
                    f"samples={str(path)!r}: line {number} is not an object; give {what}"
                )
            yield number, row


def text_of(row: dict[str, Any], name: str, path: Path, number: int) -> str:
    """A field's text. Errors: UserError if it is absent or empty."""
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        raise UserError(
            f"samples={str(path)!r}: line {number} has no text in {name!r}; mend that line"
        )
    return value


def language_of(row: dict[str, Any], text: str) -> str:
    """The row's language where it is a known one, else what the text looks like."""
    return row["language"] if row.get("language") in LANGUAGES else detect_language(text)


def found(name: str, places: Sequence[Path], path: Path, number: int) -> Path:
    """The picture in the first place that has it. Errors: UserError."""
    for place in places:
        if (place / name).is_file():
            return place / name
    raise UserError(
        f"samples={str(path)!r}: line {number} names the picture {name!r}, which is not there; put"
        " it there or mend the line"
    )


def read_samples(place: Path) -> Outputs:
    """Pictures by (prompt, language, how often that prompt came before): seeds may differ between
    models.
    """
    path, out, times = place / "samples.jsonl", {}, Counter()
    for number, row in rows(path, "a directory that `vilg sample` wrote"):
        prompt, file = text_of(row, "prompt", path, number), text_of(row, "file", path, number)
        language = language_of(row, prompt)
        category = str(row.get("category") or "")
        key = (prompt, language, str(times[prompt, language]))
        times[prompt, language] += 1
        out[key] = Output(
            found(file, [place], path, number), {"prompt": prompt}, language, prompt, category
        )
    return out


def read_captions(path: Path) -> Outputs:
    """The first caption of each picture in each language, by (picture, language)."""
    out = {}
    for number, row in rows(path, "a .jsonl file that `vilg caption` wrote"):
        image = text_of(row, "image", path, number)
        captions = row.get("captions", row.get("caption", []))
        captions = captions if isinstance(captions, list) else [captions]
        entries = [c if isinstance(c, dict) else {"text": c} for c in captions]
        if not entries:
            raise UserError(f"samples={str(path)!r}: line {number} has no captions; mend that line")
        for entry in entries:
            text = text_of(entry, "text", path, number)
            language = language_of(entry, text)
            picture = found(image, [Path(), path.parent], path, number)
            out.setdefault(
                (image, language),
                Output(picture, {"caption": text}, language, image, str(row.get("category") or "")),
            )
    return out


def read_answers(path: Path) -> Outputs:
    """Answers by (picture, question)."""
    out = {}
    for number, row in rows(path, "a .jsonl file with image, question and answer"):
        image, question, answer = (
            text_of(row, name, path, number) for name in ("image", "question", "answer")
        )
        picture = found(image, [Path(), path.parent], path, number)
        language = language_of(row, question)
        shown = {"question": question, "answer": answer}
        out.setdefault(
            (image, question),
            Output(
                picture, shown, language, f"{image}\n{question}", str(row.get("category") or "")
            ),
        )
    return out


READERS: dict[str, Callable[[Path], Outputs]] = {
    "samples": read_samples,
    "captions": read_captions,
    "answers": read_answers,
}


def read_models(paths: Sequence[str], inputs: str, common: bool) -> tuple[dict[str, Outputs], int]:
    """Each model's outputs on the same keys, and how many keys were left out.

    Errors: UserError for what is not there, or for keys that not all models have unless `common`
    asks for those that all have."""
    read = {
        name: (path, READERS[inputs](Path(path)))
        for name, path in zip(model_names(paths), paths, strict=True)
    }
    for path, outputs in read.values():
        if not outputs:
            raise UserError(f"samples={path!r}: holds nothing; sample, caption or answer first")
    every = list(
        dict.fromkeys(key for name in sorted(read) for key in read[name][1])
    )  # whatever order the models are given in
    kept = [key for key in every if all(key in outputs for _, outputs in read.values())]
    if len(kept) < len(every) and not common:
        path, missing = next(
            (p, m) for p, o in read.values() if (m := [k for k in every if k not in o])
        )
        raise UserError(
            f"samples={path!r}: lacks {len(missing)} of {counted(len(every), 'prompt')}, the first"
            f" {missing[0][0]!r}; make them, or give --common to judge those that all have"
        )
    if not kept:
        raise UserError(
            f"samples={','.join(paths)!r}: have no prompt in common; give outputs for the same"
            " prompts"
        )
    return {name: {key: outputs[key] for key in kept} for name, (_, outputs) in read.items()}, len(
        every
    ) - len(kept)
