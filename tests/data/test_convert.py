import itertools

import numpy as np
import pytest
from PIL import Image

from vilg.data import show as show_module
from vilg.data.convert import WRITERS, convert, stats
from vilg.data.records import BadRecord, validate
from vilg.data.show import legible, show, wrap
from vilg.data.sources import parse_source
from vilg.types import UserError


class Listed:
    """A source of a list of records, in which an exception is raised when it is read."""

    def __init__(self, records):
        self.records = records

    def __len__(self):
        return len(self.records)

    def __getitem__(self, i):
        if isinstance(self.records[i], Exception):
            raise self.records[i]
        return self.records[i]


def equal(one: dict, two: dict) -> bool:
    np.testing.assert_array_equal(one["image"], two["image"])
    return {**one, "image": 0} == {**two, "image": 0}


@pytest.mark.parametrize(("first", "second"), list(itertools.product(WRITERS, WRITERS)))
def test_round_trips_are_equal(tmp_path, records, first, second):
    convert(Listed(records), first, tmp_path / "one")
    convert(parse_source(f"{first}:{tmp_path / 'one'}"), second, tmp_path / "two")
    source = parse_source(f"{second}:{tmp_path / 'two'}")
    assert len(source) == len(records)
    assert all(equal(validate(source[i]), record) for i, record in enumerate(records))


def test_synthetic_records_survive(tmp_path):
    source = parse_source("synthetic:test,n=3,annotations=true")
    convert(source, "webdataset", tmp_path / "made")
    back = parse_source(f"webdataset:{tmp_path / 'made'}")
    assert all(equal(back[i], source[i]) for i in range(3)) and back[0]["boxes"] and back[0]["qa"]


def test_bad_records_are_counted_and_left_out(tmp_path, records):
    source = Listed(
        [records[0], BadRecord("x", "broken"), {**records[1], "captions": []}, records[2]]
    )
    done = convert(source, "shards", tmp_path / "made")
    assert done == {"records": 2, "bad": {"x": "broken", "made/1": "no captions"}}
    with pytest.raises(UserError, match=r"bad_record_limit=1: .*x \(broken\)"):
        convert(source, "shards", tmp_path / "other", bad_record_limit=1)
    with pytest.raises(UserError, match="no good record"):
        convert(Listed([BadRecord("x", "broken")]), "folder", tmp_path / "other")
    with pytest.raises(UserError, match="exists already"):
        convert(source, "folder", tmp_path / "made")
    with pytest.raises(UserError, match="did you mean 'folder'"):
        convert(source, "foldr", tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_a_conversion_that_dies_leaves_nothing(tmp_path, records):
    with pytest.raises(KeyboardInterrupt):

        class Dying(Listed):
            def __getitem__(self, i):
                if i == 3:
                    raise KeyboardInterrupt
                return super().__getitem__(i)

        convert(Dying(records), "shards", tmp_path / "made")
    assert list(tmp_path.iterdir()) == []


def test_stats_count(records):
    found = stats(Listed([*records, BadRecord("x", "broken")]))
    assert (found["records"], found["good"], found["bad"], found["captions"]) == (8, 7, 1, 21)
    assert found["first_bad"] == {"x": "broken"} and found["captions_by_language"] == {
        "zh": 7,
        "en": 14,
    }
    assert found["caption_characters"]["zh"] == {"min": 5.0, "median": 5.0, "p95": 5.0, "max": 5.0}
    assert found["image_sizes"] == {"24x20": 3, "24x21": 2, "24x22": 2} and found["licenses"] == {
        "CC0-1.0": 7
    }
    assert found["with"] == {"boxes": 7, "words": 7, "qa": 7, "scene": 7}
    assert stats(Listed(records), count=2)["good"] == 2


def test_the_sheet_shows_pictures_and_says_when_chinese_cannot_be_written(
    tmp_path, records, monkeypatch
):
    monkeypatch.setattr(show_module, "chinese_font", lambda: None)
    red = {**records[0], "image": np.full((4, 8, 3), (255, 0, 0), np.uint8)}
    done = show(Listed([red, BadRecord("x", "broken")]), tmp_path / "sheet.png", columns=1, cell=64)
    assert done == {"shown": 1, "bad": {"x": "broken"}, "note": show_module.NO_FONT}
    page = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert (page == (255, 0, 0)).all(-1).sum() == 64 * 32
    assert (page[80:] < 128).all(-1).sum() > 100  # the captions
    assert legible("a红b") == "a[7ea2]b"
    for options, named in (({"out": "x.jpg"}, "png"), ({"out": "x.png", "n": 0}, "n=0")):
        with pytest.raises(UserError, match=named):
            show(Listed(records), **options)
    with pytest.raises(UserError, match="none of 1"):
        show(Listed([BadRecord("x", "broken")]), tmp_path / "y.png")


def test_a_chosen_font_must_write_chinese(monkeypatch):
    show_module.chinese_font.cache_clear()
    monkeypatch.setenv(show_module.FONT_VARIABLE, __file__)
    with pytest.raises(UserError, match="VILG_FONT"):
        show_module.chinese_font()


def test_lines_fit():
    face = show_module.ImageFont.load_default(12)
    text = "a long caption of several words, andoneverylongwordthatdoesnotfit "
    text += "红色的圆形在蓝色的方块的左边"
    lines = wrap(text, 80, face)
    assert len(lines) > 3 and all(face.getlength(line) <= 80 for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
