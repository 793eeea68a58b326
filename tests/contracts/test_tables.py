"""Every table that vilg/README.md tells the reader to add a line to is iterated by a test, so that
a new entry is tested without being named.
"""

import re
from pathlib import Path

import pytest

PAGE = Path("vilg/README.md").read_text()
SECTION = PAGE[PAGE.index("## To add X, open Y") : PAGE.index("## Worked example")]
TABLES = sorted(set(re.findall(r"`([A-Z][A-Z_]+)`", SECTION)))
TESTS = {p: p.read_text() for p in Path("tests").rglob("*.py") if p != Path(__file__).resolve()}


def test_the_page_names_the_tables():
    assert len(TABLES) >= 15 and "GENERATORS" in TABLES
    sources = "".join(p.read_text() for p in Path("vilg").rglob("*.py"))
    for table in TABLES:
        assert re.search(rf"^{table}\b.*= ", sources, re.M), f"there is no table {table}"


@pytest.mark.parametrize("table", TABLES)
def test_a_test_iterates_over_the_table(table):
    name = rf"(?:\w+\.)*{table}\b"
    loops = re.compile(
        rf"parametrize\([^()]*\(?(?:sorted|list|tuple)?\(?{name}"  # the cases of a test
        rf"|params=(?:sorted|list|tuple)?\(?{name}"
        rf"|\bin (?:sorted|list|tuple)?\(?{name}"  # a loop over it
        rf"|\*{name}|set\({name}\)"  # all of its names
    )
    users = [p for p, text in TESTS.items() if loops.search(text)]
    assert users, f"no test iterates over {table}"
