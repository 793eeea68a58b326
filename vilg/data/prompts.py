"""Prompt files for `sample --prompts` and evaluators: .txt, .csv, .tsv and .jsonl.

Real files have byte-order marks, CRLF, newlines inside quotes, Chinese headers and encodings other
than UTF-8. A file is read as a whole or refused with one sentence, never read in part."""

import csv
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vilg.data.records import LANGUAGES, detect_language
from vilg.types import UserError

COLUMNS = ("prompt", "text", "caption", "提示", "提示词", "文本", "描述")
FORMATS = (".txt", ".csv", ".tsv", ".jsonl")
csv.field_size_limit(2**20)


@dataclass(frozen=True)
class Prompt:
    """A prompt, its language, and the other columns of its row."""

    text: str
    language: str
    extra: dict[str, Any] = field(default_factory=dict)


def read_prompts(path: str | Path, column: str = "") -> list[Prompt]:
    """The prompts of a file, in its order. Newlines inside a prompt become spaces, and rows whose
    prompt is empty are left out.

    A table's prompt column is `column`, else the first of COLUMNS (in any case) that it has. The
    language of a row is its column "language", else zh if the prompt has Han characters. Errors:
    UserError for a missing file, an unknown ending or column, bytes that are not UTF-8 (with the
    line), a row that does not fit the header, broken JSON, or no prompt at all."""
    path = Path(path)
    prompts = [
        prompt
        for row in read_rows(path, column)
        if (prompt := prompt_of(path, row, column)) is not None
    ]
    if not prompts:
        raise UserError(f"prompts={str(path)!r}: holds no prompt; write one a line")
    return prompts


def read_utf8(path: Path, where: str) -> str:
    """The text of a file, without a byte-order mark. Errors: UserError, whose message begins with
    `where`, for a file that cannot be read, or whose bytes are not UTF-8 (with the line)."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{where}: cannot be read ({error.strerror}); check the path") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError(f"{where}: line {line} is not UTF-8; save the file as UTF-8") from None
    return text


def read_rows(path: Path, column: str = "") -> list[dict[str, object]]:
    """The rows of a file as dicts by header; a line of a .txt is {"prompt": line}. Errors: as
    `read_prompts`, except for those about columns.
    """
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"prompts={str(path)!r}: give a file that ends in {', '.join(FORMATS)}")
    text = read_utf8(path, f"prompts={str(path)!r}")
    kind = path.suffix.lower()
    if kind == ".txt":
        if column:
            raise UserError(f"column={column!r}: {path.name} has no columns; leave it out")
        return [{"prompt": line} for line in text.splitlines()]
    if kind == ".jsonl":
        return json_rows(path, text)
    return table_rows(path, text, "," if kind == ".csv" else "\t")


def table_rows(path: Path, text: str, delimiter: str) -> list[dict[str, object]]:
    """The rows of a CSV or TSV as dicts by header. A TSV whose quotes do not pair up is read
    without quoting (PartiPrompts).
    """
    try:
        return quoted_rows(path, text, delimiter, csv.QUOTE_MINIMAL)
    except UserError:
        if delimiter != "\t":
            raise
        return quoted_rows(path, text, delimiter, csv.QUOTE_NONE)


def quoted_rows(
    path: Path, text: str, delimiter: str, quoting: Literal[0, 3]
) -> list[dict[str, object]]:
    """The rows of a table under csv.QUOTE_MINIMAL or csv.QUOTE_NONE."""
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, strict=True
    )
    rows: list[dict[str, object]] = []
    header: list[str] = []
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if not header:
                header = [cell.strip() for cell in cells]
                continue
            if len(cells) > len(header):
                raise UserError(
                    f"prompts={str(path)!r}: line {reader.line_num} has {len(cells)} cells under"
                    f" {len(header)} headers; quote its text"
                )
            rows.append(dict(zip(header, cells, strict=False)))
    except csv.Error as error:
        raise UserError(
            f"prompts={str(path)!r}: line {reader.line_num} is not {path.suffix[1:]} ({error});"
            " check its quotes"
        ) from None
    return rows


def json_rows(path: Path, text: str) -> list[dict[str, object]]:
    """The objects of JSON lines; a string is {"prompt": string}."""
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(
                f"prompts={str(path)!r}: line {number} is not JSON ({error}); mend it"
            ) from None
        row = {"prompt": row} if isinstance(row, str) else row
        if not isinstance(row, dict):
            raise UserError(
                f'prompts={str(path)!r}: line {number} is not an object; write {{"prompt": ...}}'
            )
        rows.append(row)
    return rows


def prompt_of(path: Path, row: dict[str, Any], column: str) -> Prompt | None:
    """The prompt of a row, or None where it is empty."""
    name = column if column in row else None
    if not column:
        lower = {key.lower(): key for key in reversed(row)}
        name = next((lower[known] for known in COLUMNS if known in lower), None)
    if name is None:
        wanted = f"column {column!r}" if column else f"column {' or '.join(COLUMNS[:3])}"
        raise UserError(
            f"prompts={str(path)!r}: there is no {wanted}; name one with --column: {', '.join(row)}"
        )
    if not isinstance(row[name], str):
        raise UserError(
            f"prompts={str(path)!r}: {name} holds {row[name]!r}, which is not text; mend that row"
        )
    text = " ".join(row[name].split())
    if not text:
        return None
    language = str(row.get("language", "")).strip().lower()
    extra = {key: value for key, value in row.items() if key != name}
    return Prompt(text, language if language in LANGUAGES else detect_language(text), extra)
