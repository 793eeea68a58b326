"""Prompt suites by name, read from $VILG_DATA/NAME/ under the names of the files that their authors
published (suite_table.py).

`prompts` reads any file; this module also knows a suite's columns by language, its categories and
its origin. Every language of a row is a Prompt of its own. Its `extra` has the same "id" in all
languages, "suite", where known "category" (with "category_en" where that is not English), "source"
and "translation" (the author of the Chinese), and the row's other columns under their own names."""

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from vilg.config import suggestion
from vilg.data.prompts import COLUMNS, FORMATS, Prompt, prompt_of, read_rows
from vilg.data.suite_table import CATEGORY, SUITES
from vilg.types import UserError

VARIABLE = "VILG_DATA"
# the fields of `extra` that are written beside what a model made of a prompt
FIELDS = ("suite", "id", "category", "category_en", "source", "translation")
SOURCE = ("source", "来源")  # names of a column that says where a prompt comes from


def read_suite(
    source: str | Path, column: str = "", languages: Sequence[str] = (), translation: str = ""
) -> list[Prompt]:
    """The prompts of a suite by name, or of any file that `read_prompts` reads, row by row, in the
    given languages (none: in all).

    A file that has the name of a suite's file is read as that suite's, unless `column` names its
    prompts. `translation` names the translator of the Chinese of a suite whose file does not.
    Errors: UserError for a source that is neither, a missing file (with where to get it), a
    language without prompts, Chinese without a named translator, and those of `read_prompts`."""
    name = str(source)
    prompts = read_named(name, column, languages, translation)
    counts = Counter((p.extra["id"], p.language) for p in prompts)
    repeated = [key for key, n in counts.items() if n > 1]
    if repeated:
        id, language = repeated[0]
        raise UserError(
            f"prompts={name!r}: id {id!r} comes twice in {language}; give each prompt of a language"
            " its own"
        )
    present = {p.language for p in prompts}
    for language in languages:
        if language not in present:
            raise UserError(
                f"language={language!r}: {name} has no prompt in it; give another language, or"
                " another suite"
            )
    return [p for p in prompts if not languages or p.language in languages]


def read_named(name: str, column: str, languages: Sequence[str], translation: str) -> list[Prompt]:
    """The prompts of a suite or a file, before they are checked. Errors: as `read_suite`."""
    if name in SUITES:
        if column:
            raise UserError(
                f"column={column!r}: the suite {name} knows its columns; leave it out, or give the"
                " path of its file"
            )
        generate = SUITES[name].generate
        if generate is not None:
            return generate()
        files = suite_files(name)
        return [p for path in files for p in read_suite_file(name, path, languages, translation)]
    path = Path(name)
    if path.suffix.lower() not in FORMATS and not path.exists():
        near = suggestion(name, SUITES, repr)
        raise UserError(
            f"prompts={name!r}: is no suite ({near}known suites are {', '.join(SUITES)}) and no"
            f" file that ends in {', '.join(FORMATS)}"
        )
    suite_of = {f.lower(): s for s, suite in SUITES.items() for names in suite.files for f in names}
    suite = "" if column else suite_of.get(path.name.lower(), "")
    if suite:
        return read_suite_file(suite, path, languages, translation)
    return read_own_file(path, column)


def suite_files(name: str) -> list[Path]:
    """The files of a suite under $VILG_DATA. Errors: UserError for a missing one."""
    suite, root = SUITES[name], os.environ.get(VARIABLE, "")
    get = f"get it from {suite.where} (licence: {suite.license})"
    if not root:
        raise UserError(
            f"prompts={name!r}: ${VARIABLE} is not set; give it a directory that holds"
            f" {name}/{suite.files[0][0]}: {get}"
        )
    files = []
    for names in suite.files:
        places = [Path(root) / name / file for file in names]
        existing = [place for place in places if place.is_file()]
        if not existing:
            raise UserError(f"prompts={name!r}: there is no {places[0]}; {get}")
        files.append(existing[0])
    return files


def read_suite_file(
    name: str, path: Path, languages: Sequence[str] = (), translation: str = ""
) -> list[Prompt]:
    """The prompts of one file of a suite, in the given languages (none: in all)."""
    suite, prompts = SUITES[name], []
    rows = read_rows(path)
    headers = {key.strip().lower(): key for row in reversed(rows) for key in row}
    columns = {
        language: next((headers[c] for c in names if c in headers), None)
        for language, names in suite.columns.items()
    }
    if not any(columns.values()):
        wanted = " or ".join(c for names in suite.columns.values() for c in names)
        raise UserError(
            f"prompts={str(path)!r}: there is no column {wanted}, which {name} has; it has"
            f" {', '.join(headers.values())}"
        )
    category, origin = (
        next((headers[c] for c in names if c in headers), "") for names in (suite.category, SOURCE)
    )
    translator = headers.get("translation", "")
    known = {*columns.values(), category, origin, translator}
    for number, row in enumerate(rows, 1):
        extra: dict[str, object] = {key: value for key, value in row.items() if key not in known}
        extra |= {"suite": name, "id": f"{path.stem}/{number}"}
        kind = " ".join(str(row.get(category) or "").split())
        if suite.file_suffix:
            kind = path.stem.removesuffix(suite.file_suffix)
        extra |= {"category": kind} if kind else {}
        extra |= {"category_en": suite.english[kind]} if kind in suite.english else {}
        extra |= {"source": row[origin]} if row.get(origin) else {}
        for language, header in columns.items():
            wanted = not languages or language in languages
            if header is None or row.get(header) is None or not wanted:
                continue
            prompt = prompt_of(path, {header: row[header]}, header)
            if prompt is None:
                continue
            added = {}
            if suite.translated and language == "zh":
                added["translation"] = translator_of(
                    path, number, row.get(translator) or translation
                )
            prompts.append(Prompt(prompt.text, language, extra | added))
    return prompts


def translator_of(path: Path, number: int, translation: object) -> str:
    """The translator of a row. Errors: UserError where none is named."""
    if not isinstance(translation, str) or not translation.strip():
        raise UserError(
            f"prompts={str(path)!r}: row {number} does not say who translated its Chinese; give the"
            " column translation, such as 'Baidu Translate'"
        )
    return translation.strip()


def read_own_file(path: Path, column: str) -> list[Prompt]:
    """The prompts of a user's own file. A column "id" may join the languages of a prompt; without
    it the number of the row is the id. A column of CATEGORY gives categories.
    """
    prompts = []
    for number, row in enumerate(read_rows(path, column), 1):
        prompt = prompt_of(path, row, column)
        if prompt is None:
            continue
        headers = {key.strip().lower(): key for key in reversed(prompt.extra)}
        category = next((prompt.extra[headers[c]] for c in CATEGORY if c in headers), None)
        added = {
            "suite": path.name,
            "id": str(prompt.extra.get("id") or f"{path.stem}/{number}"),
        }
        added |= {"category": str(category)} if category else {}
        prompts.append(Prompt(prompt.text, prompt.language, prompt.extra | added))
    if not prompts:
        raise UserError(
            f"prompts={str(path)!r}: holds no prompt; write one a line under"
            f" {' or '.join(COLUMNS[:3])}"
        )
    return prompts


def of_categories(prompts: Sequence[Prompt], wanted: Sequence[str]) -> list[Prompt]:
    """The prompts of the named categories, or all of them where none is named. A name may be in the
    prompts' own language or in English, in any case.

    Errors: UserError for a name that no prompt has."""
    known = {
        p.extra["category"]: p.extra.get("category_en", "")
        for p in prompts
        if "category" in p.extra
    }
    chosen: set[str] = set()
    for name in wanted:
        named = {
            category
            for category, english in known.items()
            if name and name.lower() in (category.lower(), english.lower())
        }
        if not named:
            near = suggestion(name, [n for pair in known.items() for n in pair if n], repr)
            names = ", ".join(known) or "none"
            raise UserError(f"category={name!r}: {near}the prompts' categories are {names}")
        chosen |= named
    return [p for p in prompts if not wanted or p.extra.get("category") in chosen]


def digest(source: str | Path) -> str:
    """A hash of the files that `read_suite` reads; "" for a suite without files."""
    name = str(source)
    paths = (suite_files(name) if SUITES[name].files else []) if name in SUITES else [Path(source)]
    parts = [path.read_bytes() for path in paths]
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16] if parts else ""


def suite_table() -> str:
    """A line for each suite: name, whether its files exist, languages, prompts in each language,
    licence, and where to get it.
    """
    header = ("suite", "here", "languages", "prompts", "licence", "where")
    return "\n".join("\t".join(row) for row in (header, *map(table_row, SUITES)))


def table_row(name: str) -> tuple[str, ...]:
    """A suite's row of the table."""
    suite = SUITES[name]
    try:
        here = "yes" if suite.generate or suite_files(name) else "no"
    except UserError:
        here = "no"
    return name, here, ",".join(suite.columns), str(suite.prompts), suite.license, suite.where
