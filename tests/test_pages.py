"""Pages and citations: what code and pages refer to is in the repository."""

import re
import subprocess
from pathlib import Path

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
