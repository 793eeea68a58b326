"""The inputs of `vilg judge --samples`: pictures of prompts, captions of pictures or answers about
pictures, joined across models.

A directory is one of `vilg sample`, or any other with a samples.jsonl (prompt, file). Files of
captions and answers are JSON lines, whose pictures are looked for below the current directory and
beside the file."""

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
    """One model's output for one prompt. `texts` are read by the rater beside the picture;
    intervals are over prompts, which `prompt` names.
    """

    picture: Path
    texts: dict[str, str]
    language: str
    prompt: str
    category: str = ""


Key = tuple[str, ...]  # what the outputs of several models have in common: a prompt, a picture
Outputs = dict[Key, Output]  # of one model


def model_names(paths: Sequence[str]) -> list[str]:
    """Names of the models: the shortest ends of the paths that tell them apart. Errors: UserError
    for the same path twice.
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


def read_rows(path: Path, expected: str) -> Iterator[tuple[int, dict[str, object]]]:
    """(line number, object) of a file of JSON lines. Errors: UserError with the line, or with what
    is expected instead of the file.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UserError(
            f"samples={str(path)!r}: cannot be read ({said}); give {expected}"
        ) from None
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
                    f"samples={str(path)!r}: line {number} is not an object; give {expected}"
                )
            yield number, row


def text_of(row: dict[str, object], name: str, path: Path, number: int) -> str:
    """The text of a field. Errors: UserError if it is absent or empty."""
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        raise UserError(
            f"samples={str(path)!r}: line {number} has no text in {name!r}; mend that line"
        )
    return value


def language_of(row: dict[str, Any], text: str) -> str:
    """The row's language where it is a known one, else the one that the text looks like."""
    return row["language"] if row.get("language") in LANGUAGES else detect_language(text)


def find_picture(name: str, folders: Sequence[Path], path: Path, number: int) -> Path:
    """The picture in the first folder that has it. Errors: UserError if none has."""
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise UserError(
        f"samples={str(path)!r}: line {number} names the picture {name!r}, which is not there; put"
        " it there or mend the line"
    )


def read_samples(folder: Path) -> Outputs:
    """Pictures by (prompt, language, how often that prompt came before), because seeds may differ
    between models.
    """
    path = folder / "samples.jsonl"
    outputs: Outputs = {}
    times: Counter[tuple[str, str]] = Counter()
    for number, row in read_rows(path, "a directory that `vilg sample` wrote"):
        prompt, file = text_of(row, "prompt", path, number), text_of(row, "file", path, number)
        language = language_of(row, prompt)
        category = str(row.get("category") or "")
        key = (prompt, language, str(times[prompt, language]))
        times[prompt, language] += 1
        picture = find_picture(file, [folder], path, number)
        outputs[key] = Output(picture, {"prompt": prompt}, language, prompt, category)
    return outputs


def read_captions(path: Path) -> Outputs:
    """The first caption of each picture in each language, by (picture, language)."""
    outputs: Outputs = {}
    for number, row in read_rows(path, "a .jsonl file that `vilg caption` wrote"):
        image = text_of(row, "image", path, number)
        captions = row.get("captions", row.get("caption", []))
        captions = captions if isinstance(captions, list) else [captions]
        entries = [c if isinstance(c, dict) else {"text": c} for c in captions]
        if not entries:
            raise UserError(f"samples={str(path)!r}: line {number} has no captions; mend that line")
        for entry in entries:
            text = text_of(entry, "text", path, number)
            language = language_of(entry, text)
            picture = find_picture(image, [Path(), path.parent], path, number)
            category = str(row.get("category") or "")
            output = Output(picture, {"caption": text}, language, image, category)
            outputs.setdefault((image, language), output)
    return outputs


def read_answers(path: Path) -> Outputs:
    """Answers by (picture, question)."""
    outputs: Outputs = {}
    for number, row in read_rows(path, "a .jsonl file with image, question and answer"):
        image, question, answer = (
            text_of(row, name, path, number) for name in ("image", "question", "answer")
        )
        picture = find_picture(image, [Path(), path.parent], path, number)
        texts = {"question": question, "answer": answer}
        prompt, category = f"{image}\n{question}", str(row.get("category") or "")
        output = Output(picture, texts, language_of(row, question), prompt, category)
        outputs.setdefault((image, question), output)
    return outputs


READERS: dict[str, Callable[[Path], Outputs]] = {
    "samples": read_samples,
    "captions": read_captions,
    "answers": read_answers,
}


def read_models(paths: Sequence[str], inputs: str, common: bool) -> tuple[dict[str, Outputs], int]:
    """({model: its outputs of the keys that all models have}, the number of other keys).

    Errors: UserError for a path that cannot be read, for models without a common key, and, without
    `common`, for a key that not all models have."""
    read = {
        name: (path, READERS[inputs](Path(path)))
        for name, path in zip(model_names(paths), paths, strict=True)
    }
    for path, outputs in read.values():
        if not outputs:
            raise UserError(f"samples={path!r}: holds nothing; sample, caption or answer first")
    # sorted, so that the order of the models on the command line does not matter
    keys = list(dict.fromkeys(key for name in sorted(read) for key in read[name][1]))
    shared = [key for key in keys if all(key in outputs for _, outputs in read.values())]
    if len(shared) < len(keys) and not common:
        path, missing = next(
            (p, m) for p, o in read.values() if (m := [k for k in keys if k not in o])
        )
        raise UserError(
            f"samples={path!r}: lacks {len(missing)} of {counted(len(keys), 'prompt')}, the first"
            f" {missing[0][0]!r}; make them, or give --common to judge those that all have"
        )
    if not shared:
        raise UserError(
            f"samples={','.join(paths)!r}: have no prompt in common; give outputs for the same"
            " prompts"
        )
    models = {n: {key: outputs[key] for key in shared} for n, (_, outputs) in read.items()}
    return models, len(keys) - len(shared)
