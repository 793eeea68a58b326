"""From a section to a dataclass: which values a field takes, and what is said of the others."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Literal

import pytest

from vilg.config import build, build_part, lookup
from vilg.types import UserError


@dataclasses.dataclass(frozen=True)
class Inner:
    rate: float = 0.5


@dataclasses.dataclass(frozen=True)
class Section:
    """A field of each kind of type."""

    number: int
    width: int = 0  # computed in one of the tests
    rate: float = 0.0
    shift: float = dataclasses.field(default=0.0, metadata={"signed": True})
    flag: bool = False
    text: str = ""
    kind: Literal["a", "b"] = "a"
    maybe: int | None = None
    pair: tuple[int, float] = (0, 0.0)
    many: tuple[int, ...] = ()
    options: Mapping = dataclasses.field(default_factory=dict)


@pytest.mark.parametrize(
    ("field", "value", "stored"),
    [
        ("rate", 2, 2.0),
        ("shift", -1, -1.0),
        ("flag", True, True),
        ("kind", "b", "b"),
        ("maybe", None, None),
        ("maybe", 3, 3),
        ("pair", [1, 2], (1, 2.0)),
        ("many", [1, 2, 3], (1, 2, 3)),
        ("options", {"a": 1}, {"a": 1}),
    ],
)
def test_a_value_is_stored_as_the_fields_type(field, value, stored):
    found = getattr(build(Section, {"name": "skipped", "number": 1, field: value}, "part"), field)
    assert found == stored and type(found) is type(stored)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("number", 1.5, "part.number=1.5: must be a whole number, not float"),
        ("number", True, "part.number=True: must be a whole number, not bool"),
        ("number", -1, "part.number=-1: must not be negative"),
        ("rate", "fast", "part.rate='fast': must be a number, not str"),
        ("rate", math.nan, "part.rate=nan: must be finite"),
        ("rate", math.inf, "part.rate=inf: must be finite"),
        ("flag", 1, "part.flag=1: must be True or False"),
        ("text", 1, "part.text=1: must be text"),
        ("kind", "c", "part.kind='c': must be one of 'a', 'b'"),
        ("pair", [1], r"part.pair=\[1\]: must have 2 items"),
        ("pair", 1, "part.pair=1: must be a list"),
        ("many", [1, "x"], r"part.many\[1\]='x': must be a whole number"),
        ("options", [1], r"part.options=\[1\]: must be a mapping"),
        ("rat", 1, "part.rat=1: unknown field of Section; did you mean part.rate"),
    ],
)
def test_another_value_is_named_with_its_field_and_a_remedy(field, value, words):
    with pytest.raises(UserError, match=words):
        build(Section, {"number": 1, field: value}, "part")


def test_a_computed_field_is_no_key_and_a_field_without_default_is_needed():
    assert build(Section, {"number": 1}, "part", width=3).width == 3
    with pytest.raises(UserError, match="part.width=1: unknown field"):
        build(Section, {"number": 1, "width": 1}, "part", width=3)
    with pytest.raises(UserError, match="part.number is missing: Section needs it"):
        build(Section, {}, "part")
    with pytest.raises(UserError, match="part=5: must hold fields of Section"):
        build(Section, 5, "part")


def test_a_part_is_a_section_of_a_class_or_of_a_table_or_built_already():
    table = {"inner": Inner}
    assert build_part(Inner, {"rate": 1}, "part") == Inner(1.0)
    assert build_part(table, {"name": "inner", "rate": 1}, "part") == Inner(1.0)
    assert build_part(table, Inner(2.0), "part") == Inner(2.0)
    with pytest.raises(UserError, match="part=5: must be a section"):
        build_part(table, 5, "part")
    with pytest.raises(UserError, match="part.name='iner': did you mean 'inner'"):
        build_part(table, {"name": "iner"}, "part")


@pytest.mark.parametrize("name", [None, 3, ["inner"]])
def test_a_name_that_is_no_text_is_unknown(name):
    with pytest.raises(UserError, match="part.name=.*known names are 'inner'"):
        lookup({"inner": Inner}, name, "part.name")
