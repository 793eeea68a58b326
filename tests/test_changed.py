"""`launch/test.sh --fast` runs the tests of what changed."""

from pathlib import Path

import pytest

from tests.changed import ALWAYS, belonging


@pytest.mark.parametrize(
    ("file", "test"),
    [
        ("vilg/processes/splits.py", "tests/processes/test_splits.py"),
        ("vilg/processes/base.py", "tests/processes"),  # no test imports it: the directory
        ("vilg/run/sample.py", "tests/run/test_sample.py"),
        ("vilg/program.py", "tests/contracts"),
        ("experiments/ranker.py", "tests/contracts/test_experiments.py"),
        ("tests/nn/pattern_oracle.py", "tests/nn"),
        ("tests/nn/test_patterns.py", "tests/nn/test_patterns.py"),
        ("tests/conftest.py", "tests/contracts"),
    ],
)
def test_a_changed_file_brings_its_tests(file, test):
    assert Path(file).is_file(), "renamed? the mapping is tested with files that exist"
    assert test in belonging([file])
    assert set(ALWAYS) <= set(belonging([file]))


def test_a_page_brings_no_more_than_the_belonging_pages():
    assert belonging(["README.md"]) == sorted(ALWAYS)


def test_every_module_has_tests():
    for file in Path("vilg").rglob("*.py"):
        if file.name not in ("__init__.py", "__main__.py"):
            assert len(belonging([file.as_posix()])) > len(ALWAYS), f"no test belongs to {file}"
