"""Prompt suites by name, read from $VILG_DATA/NAME/ under the names of the files that their authors
published. None is shipped.

Separate from `prompts`, which reads any file: a suite knows its columns by language, its
categories, and where it comes from. Every language of a row is a Prompt of its own; `extra` has the
same "id" in all of them, "suite", where known "category" (with "category_en" where it is not
English), "source" and "translation" (who made the Chinese), and the row's other columns under their
own names."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vilg.config import suggestion
from vilg.data.prompts import COLUMNS, FORMATS, Prompt, parse, read_rows
from vilg.data.records import LANGUAGES
from vilg.data.scenes.captions import WORDINGS, describe, kind_of
from vilg.data.scenes.skills import CATEGORIES, draw_scenes
from vilg.data.scenes.source import Synthetic
from vilg.types import UserError

VARIABLE = "VILG_DATA"
FIELDS = (
    "suite",
    "id",
    "category",
    "category_en",
    "source",
    "translation",
)  # of `extra`, for whoever writes what came of a prompt
CATEGORY, SOURCE = ("category", "类别"), ("source", "来源")
# The names that DrawBench and ERNIE-ViLG 2.0 give these categories in English; "Simple", "View" and
# "Style" are ours.
VILG_300 = {
    "颜色": "Colors",
    "计数": "Counting",
    "矛盾": "Conflicting",
    "描述": "Descriptions",
    "位置": "Positional",
    "加里·马库斯等人。": "Gary Marcus et al.",
    "DALL-E图像生成器": "DALL-E",
    "Reddit论坛": "Reddit",
    "地理类": "Geography",
    "多物+属性描述+关系描述": "Complex",
    "反事实": "Counterfactual",
    "单物+属性描述": "Simple",
    "拟人化动物/卡通形象": "Cartoon",
    "不同视角": "View",
    "不同风格": "Style",
    "不同时间/场景": "Scene",
}
COMPBENCH = (
    "color",
    "shape",
    "texture",
    "spatial",
    "3d_spatial",
    "non_spatial",
    "numeracy",
    "complex",
)


@dataclass(frozen=True)
class Suite:
    """Where the prompts of a suite are. `files` are alternatives each, the first that is there
    counts; `columns` are alternatives too, in any case; without a column of categories a file is
    one. `prompts` is how many were published, in each language."""

    files: tuple[tuple[str, ...], ...]
    columns: Mapping[str, tuple[str, ...]]
    where: str
    license: str
    prompts: int
    category: tuple[str, ...] = CATEGORY
    by_file: str = ""  # what the name of a file has beside the category; the file is the category
    english: Mapping[str, str] = field(default_factory=dict)
    translated: bool = False  # the Chinese is somebody's translation, which has to be named
    draw: Callable[[], list[Prompt]] | None = None  # instead of files


def synthetic_prompts(n: int = 16) -> list[Prompt]:
    """n scenes of every category of skills, in both languages, from the test split of the default
    synthetic data.
    """
    found = []
    for category in CATEGORIES:
        for i, scene in enumerate(draw_scenes(Synthetic(), category, n, "test")):
            extra = {
                "suite": "synthetic",
                "id": f"synthetic/{category}/{i}",
                "category": category,
                "scene": scene.to_dict(),
            }
            found += [
                Prompt(wording(scene, language, i), language, extra) for language in LANGUAGES
            ]
    return found


def wording(scene: Any, language: str, i: int) -> str:
    """The caption of scene i: the wordings of its kind take turns."""
    return describe(scene, language, i % len(WORDINGS[language][kind_of(scene)])).text


SUITES: dict[str, Suite] = {
    "synthetic": Suite(
        files=(),
        columns={language: () for language in LANGUAGES},
        where="drawn by vilg, no file",
        license="CC0-1.0",
        prompts=16 * len(CATEGORIES),
        draw=synthetic_prompts,
    ),
    "vilg_300": Suite(
        files=(("ViLG-300.csv",),),
        columns={"zh": ("文本",), "en": ("prompt",)},
        where=(
            "github.com/PaddlePaddle/ERNIE, branch ernie-kit-open-v1.0,"
            " Research/ERNIE-ViLG2/data/ViLG-300.csv"
        ),
        license="the repository is Apache-2.0, the file has no licence of its own",
        prompts=300,
        english=VILG_300,
    ),
    "drawbench": Suite(
        files=(("DrawBench.csv", "DrawBench.tsv"),),
        columns={"en": ("prompts", "prompt")},
        where=(
            "the DrawBench sheet that imagen.research.google links, saved as CSV (columns Prompts,"
            " Category)"
        ),
        license="none stated",
        prompts=200,
    ),
    "parti_prompts": Suite(
        files=(("PartiPrompts.tsv",),),
        columns={"en": ("prompt",)},
        where="github.com/google-research/parti, PartiPrompts.tsv",
        license="Apache-2.0",
        prompts=1632,
    ),
    "geneval": Suite(
        files=(("evaluation_metadata.jsonl",),),
        columns={"en": ("prompt",)},
        where="github.com/djghosh13/geneval, prompts/evaluation_metadata.jsonl",
        license="MIT",
        prompts=553,
        category=("tag",),
    ),
    "t2i_compbench": Suite(
        files=tuple((f"{name}_val.txt",) for name in COMPBENCH),
        columns={"en": ("prompt",)},
        where="github.com/Karine-Huang/T2I-CompBench, examples/dataset/*_val.txt",
        license="MIT",
        prompts=2400,
        by_file="_val",
    ),
    "coco_30k": Suite(
        files=(("coco_30k.jsonl", "coco_30k.csv"),),
        columns={
            "zh": ("zh", "caption_zh", "译文", "文本"),
            "en": ("en", "caption", "text", "prompt"),
        },
        where=(
            "cocodataset.org, annotations of val2014: one random caption of each of 30,000 pictures"
            " as columns image_id, caption, zh, translation (who or what made zh)"
        ),
        license="captions CC BY 4.0",
        prompts=30_000,
        translated=True,
    ),
}


def read_suite(
    source: str | Path, column: str = "", languages: Sequence[str] = (), translation: str = ""
) -> list[Prompt]:
    """The prompts of a suite by name, or of any file that `read_prompts` reads, row by row;
    `languages` are those wanted (none: all).

    A file that has the name of a suite's file is read as that suite's, unless `column` names its
    prompts. `translation` says who translated the Chinese of a suite whose file does not. Errors:
    UserError for what is neither, a file that is not there (with where to get it), a language that
    is not in it, Chinese of which nobody knows the translator, and those of `read_prompts`."""
    name = str(source)
    if name in SUITES:
        if column:
            raise UserError(
                f"column={column!r}: the suite {name} knows its columns; leave it out, or give the"
                " path of its file"
            )
        found = SUITES[name].draw
        rows = (
            found()
            if found
            else [
                p
                for path in suite_files(name)
                for p in read_file(name, path, languages, translation)
            ]
        )
    else:
        path, known = (
            Path(source),
            {f.lower(): s for s, suite in SUITES.items() for files in suite.files for f in files},
        )
        if path.suffix.lower() not in FORMATS and not path.exists():
            near = suggestion(name, SUITES, repr)
            raise UserError(
                f"prompts={name!r}: is no suite ({near}here are {', '.join(SUITES)}) and no file"
                f" that ends in {', '.join(FORMATS)}"
            )
        suite = "" if column else known.get(path.name.lower(), "")
        rows = read_file(suite, path, languages, translation) if suite else read_any(path, column)
    twice = [key for key, n in Counter((p.extra["id"], p.language) for p in rows).items() if n > 1]
    if twice:
        raise UserError(
            f"prompts={name!r}: id {twice[0][0]!r} comes twice in {twice[0][1]}; give each prompt"
            " of a language its own"
        )
    here = {p.language for p in rows}
    for language in languages:
        if language not in here:
            raise UserError(
                f"language={language!r}: {name} has no prompt in it; give another language, or"
                " another suite"
            )
    return [p for p in rows if not languages or p.language in languages]


def suite_files(name: str) -> list[Path]:
    """The files of a suite under $VILG_DATA. Errors: UserError for one that is not there."""
    suite, root = SUITES[name], os.environ.get(VARIABLE, "")
    get = f"get it from {suite.where} (licence: {suite.license})"
    if not root:
        raise UserError(
            f"prompts={name!r}: ${VARIABLE} is not set; give it a directory that holds"
            f" {name}/{suite.files[0][0]}: {get}"
        )
    found = []
    for alternatives in suite.files:
        places = [Path(root) / name / file for file in alternatives]
        there = [place for place in places if place.is_file()]
        if not there:
            raise UserError(f"prompts={name!r}: there is no {places[0]}; {get}")
        found.append(there[0])
    return found


def read_file(
    name: str, path: Path, languages: Sequence[str] = (), translation: str = ""
) -> list[Prompt]:
    """The prompts of one file of a suite."""
    suite, found = SUITES[name], []
    rows = read_rows(path)
    heads = {key.strip().lower(): key for row in reversed(rows) for key in row}
    columns = {
        g: next((heads[c] for c in names if c in heads), None) for g, names in suite.columns.items()
    }
    if not any(columns.values()):
        wanted = " or ".join(c for names in suite.columns.values() for c in names)
        raise UserError(
            f"prompts={str(path)!r}: there is no column {wanted}, which {name} has; it has"
            f" {', '.join(heads.values())}"
        )
    category, origin = (
        next((heads[c] for c in names if c in heads), "") for names in (suite.category, SOURCE)
    )
    told = heads.get("translation", "")
    own = {*columns.values(), category, origin, told}
    for number, row in enumerate(rows, 1):
        extra: dict[str, Any] = {key: value for key, value in row.items() if key not in own}
        extra |= {"suite": name, "id": f"{path.stem}/{number}"}
        kind = (
            path.stem.removesuffix(suite.by_file)
            if suite.by_file
            else " ".join(str(row.get(category) or "").split())
        )
        extra |= {"category": kind} if kind else {}
        extra |= {"category_en": suite.english[kind]} if kind in suite.english else {}
        extra |= {"source": row[origin]} if row.get(origin) else {}
        for language, header in columns.items():
            if (
                header is None
                or row.get(header) is None
                or (languages and language not in languages)
            ):
                continue
            prompt = parse(path, {header: row[header]}, header)
            if prompt is not None:
                by = (
                    {"translation": named(path, number, row.get(told) or translation)}
                    if suite.translated and language == "zh"
                    else {}
                )
                found.append(Prompt(prompt.text, language, extra | by))
    return found


def named(path: Path, number: int, translation: Any) -> str:
    """Who translated a row. Errors: UserError where nobody is named."""
    if not isinstance(translation, str) or not translation.strip():
        raise UserError(
            f"prompts={str(path)!r}: row {number} does not say who translated its Chinese; give the"
            " column translation, such as 'Baidu Translate'"
        )
    return translation.strip()


def read_any(path: Path, column: str) -> list[Prompt]:
    """The prompts of a user's own file; without a column "id", which may join languages, their row
    is it. A column of CATEGORY counts.
    """
    found = []
    for number, row in enumerate(read_rows(path, column), 1):
        prompt = parse(path, row, column)
        if prompt is None:
            continue
        heads = {key.strip().lower(): key for key in reversed(prompt.extra)}
        kind = next((str(prompt.extra[heads[c]] or "") for c in CATEGORY if c in heads), "")
        added = {
            "suite": path.name,
            "id": str(prompt.extra.get("id") or f"{path.stem}/{number}"),
        } | ({"category": kind} if kind else {})
        found.append(Prompt(prompt.text, prompt.language, prompt.extra | added))
    if not found:
        raise UserError(
            f"prompts={str(path)!r}: holds no prompt; write one a line under"
            f" {' or '.join(COLUMNS[:3])}"
        )
    return found


def of_categories(prompts: Sequence[Prompt], wanted: Sequence[str]) -> list[Prompt]:
    """The prompts of the named categories (in their own language or in English, in any case); all
    where none is named.

    Errors: UserError for a name that no prompt has.
    """
    known = {
        p.extra["category"]: p.extra.get("category_en", "")
        for p in prompts
        if "category" in p.extra
    }
    kept: set[str] = set()
    for name in wanted:
        meant = (
            {
                own
                for own, english in known.items()
                if name.lower() in (own.lower(), english.lower())
            }
            if name
            else set()
        )
        if not meant:
            near = suggestion(name, [n for pair in known.items() for n in pair if n], repr)
            raise UserError(f"category={name!r}: {near}here are {', '.join(known) or 'none'}")
        kept |= meant
    return [p for p in prompts if not wanted or p.extra.get("category") in kept]


def digest(source: str | Path) -> str:
    """A hash of the files that `read_suite` reads; "" for a suite without files."""
    name = str(source)
    paths = (suite_files(name) if SUITES[name].files else []) if name in SUITES else [Path(source)]
    parts = [path.read_bytes() for path in paths]
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16] if parts else ""


def suite_table() -> str:
    """All suites, a line each: name, whether it is here, languages, prompts in each, licence, where
    to get it.
    """
    return "\n".join(
        "\t".join(row)
        for row in (
            ("suite", "here", "languages", "prompts", "licence", "where"),
            *map(line, SUITES),
        )
    )


def line(name: str) -> tuple[str, ...]:
    """A suite's row of the table."""
    suite = SUITES[name]
    try:
        here = "yes" if suite.draw or suite_files(name) else "no"
    except UserError:
        here = "no"
    return name, here, ",".join(suite.columns), str(suite.prompts), suite.license, suite.where
