"""Pages: what code and pages refer to is in the repository, commands have the options that pages
give them, and examples print what pages say.
"""

import contextlib
import io
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.draw_packages import layers, picture
from vilg.run import cli

PAGES = (".py", ".md", ".sh", ".toml", ".yaml")
# Notes that existed outside the repository when the code was written; nobody can look them up.
NOTES = "SPEC|DESIGN|HOUSE|PITFALLS|TPU|CALIBRATION|MUTANTS|SIBLINGS|SERVING"
OUTSIDE = re.compile(
    rf"\b({NOTES})\.md\b|\bshared ({NOTES})\b|\b(DESIGN|PITFALLS)\b|\bSPEC(?:'s)? (section )?\d"
)


def written() -> dict[str, str]:
    """Every tracked page and source file by its name."""
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, check=True).stdout
    names = [n for n in listed.decode().split("\0") if n.endswith(PAGES)]
    return {n: Path(n).read_text() for n in names if Path(n).is_file()}


def test_every_cited_fact_of_a_paper_is_on_the_page_of_papers():
    page = Path("vilg/PAPERS.md").read_text()
    headings = set(re.findall(r"^#+ (\d+(?:\.\d+)?)\.? ", page, re.M))
    cited = {
        (number, name)
        for name, text in written().items()
        for number in re.findall(r"PAPERS\s+(\d+(?:\.\d+)*)", text)
    }
    assert len({number for number, _ in cited}) > 10
    assert not (missing := {c for c in cited if c[0] not in headings}), missing


def test_nothing_outside_the_repository_is_cited():
    for name, text in written().items():
        if name == "tests/test_pages.py":
            continue
        found = OUTSIDE.search(text)
        assert not found, f"{name} cites {found.group(0)!r}, which is not in the repository"


def test_the_picture_of_the_packages_is_up_to_date():
    drawn, file = picture(layers()), Path("vilg/packages.svg")
    if os.environ.get("UPDATE_GOLDENS"):
        file.write_text(drawn)
    assert file.read_text() == drawn, "UPDATE_GOLDENS=1 pytest tests/test_pages.py; look at it"


CODE = "^```.*?^```"
NAMED = re.compile(r"(?<![\w/.])(?:vilg|experiments|launch|tests)/[\w/.-]+\.(?:py|sh|md|svg|txt)\b")


def pages() -> list[str]:
    """The tracked pages."""
    return [name for name in written() if name.endswith(".md")]


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a language ("" where none is named)."""
    return re.findall(rf"^```{language}\n(.*?)^```", Path(page).read_text(), re.M | re.S)


@pytest.mark.parametrize("page", pages())
def test_links_and_paths_on_pages_lead_somewhere(page):
    text, here = re.sub(CODE, "", Path(page).read_text(), flags=re.M | re.S), Path(page).parent
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (here / target).exists(), f"{page} links {target}"
    for span in re.findall(r"`([^`\n]+)`", text):
        for path in NAMED.findall(span):
            assert Path(path).exists(), f"{page} names {path}"


def test_every_package_has_a_line_on_the_page_of_the_code():
    text = Path("vilg/README.md").read_text()
    for package in Path("vilg").glob("*/__init__.py"):
        assert f"\n| `{package.parent.name}` |" in text, package.parent


def test_a_newcomer_reads_the_first_page_in_five_minutes():
    lines = Path("README.md").read_text().splitlines()
    assert len(lines) <= 130
    assert len(" ".join(lines).split()) <= 1300  # at 250 words a minute


def commands(page: str) -> Iterator[tuple[str, list[str]]]:
    """(verb, arguments) of the commands of a page, in code blocks and in code spans."""
    text = Path(page).read_text()
    fenced = "".join(re.findall(r"^```\n(.*?)^```", text, re.M | re.S)).replace("\\\n", " ")
    indented = "".join(re.findall(r"^    vilg .*\n", text, re.M))
    lines = (fenced + indented).splitlines()
    spans = re.findall(r"`(vilg [^`]+)`", re.sub(CODE, "", text, flags=re.M | re.S))
    for line in (*lines, *(span.replace("\n", " ") for span in spans)):
        words = shlex.split(line, comments=True) if line.lstrip().startswith("vilg ") else []
        if len(words) > 2 and words[1] in cli.VERBS and "..." not in words:
            yield words[1], words[2:]


def test_commands_on_pages_have_the_options_of_their_verbs():
    found = [(page, verb, rest) for page in pages() for verb, rest in commands(page)]
    assert len(found) > 40
    for page, verb, rest in found:
        required = contextlib.redirect_stderr(io.StringIO())
        with required as told, contextlib.suppress(SystemExit):
            cli.parser_of(verb).parse_args([a for a in rest if not a.startswith("--config.")])
        said = told.getvalue()
        assert "unrecognized" not in said and "invalid" not in said, (
            f"{page}: {verb} {rest}: {said}"
        )


@pytest.mark.parametrize(
    "page", [p for p in pages() if any("# " in b for b in blocks(p, "python"))]
)
def test_examples_print_what_the_page_says(page):
    """The text after `#` on a line that prints is what it prints, up to a remark after " for "."""
    names: dict[str, object] = {}
    for block in blocks(page, "python"):
        prints = [line for line in block.splitlines() if line.startswith("print(")]
        if not prints:
            continue
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(block, names)
        wanted = [line.split("  # ")[1].split(" for ")[0] for line in prints]
        assert squeezed(said.getvalue().splitlines()) == squeezed(wanted)


def squeezed(lines: list[str]) -> list[str]:
    """The lines with single spaces."""
    return [" ".join(line.split()) for line in lines]
