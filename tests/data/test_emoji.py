import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from vilg.data import emoji_packages
from vilg.data.emoji import INDEX, Emoji, own_split
from vilg.data.emoji_concepts import concept, grouped, name_without_skin_tones
from vilg.data.emoji_packages import NAMES, PACKS, emoji_id, read_pack, svg
from vilg.data.emoji_prepare import prepare_emoji, render
from vilg.data.records import validate
from vilg.data.sources import fingerprint
from vilg.types import UserError

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
LEFT = '<rect width="8" height="16" fill="#f00"/>'  # red left half
FULL = '<rect width="16" height="16" fill="#00f"/>'
GREEN = '<rect width="16" height="16" fill="#0f0"/>'


def package(cache: Path, name: str, members: dict) -> None:
    file = cache / (name.lstrip("@").replace("/", "-").replace("@", "-") + ".tgz")
    with tarfile.open(file, "w:gz") as tar:
        for path, value in members.items():
            data = json.dumps(value).encode()
            member = tarfile.TarInfo(f"package/{path}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


@pytest.fixture
def cache(tmp_path) -> str:
    """npm packages with aliases, flips, fe0f in ids, skin tones, emoji of equal pixels, extras, and
    icons without a name."""
    folder = tmp_path / "cache"
    folder.mkdir()
    plain = {
        "\u2600\ufe0f": ("sun", "太阳"),
        "\U0001f44b": ("waving hand", "挥手"),
        "\U0001f31d": ("moon", "月亮"),
    }
    plain["a"] = ("letter", "字母")
    toned = {"\U0001f44b\U0001f3fb": ("waving hand: light skin tone", "挥手: 较浅肤色")}
    for (section, name), chars in zip(NAMES.items(), (plain, toned), strict=True):
        members = {}
        for k, language in enumerate(("en", "zh")):
            entries = {
                char: {"default": [names[k], "x"], "tts": [names[k]]}
                for char, names in chars.items()
            }
            entries["\u2693"] = {"default": ["no name"]}
            members[f"{section}/{language}/annotations.json"] = {section: {"annotations": entries}}
        package(folder, name, members)
    for style, name in PACKS.items():
        icons = {
            "icons": {
                "sun": {"body": LEFT},
                "wave": {"body": FULL},
                "letter": {"body": FULL},
                "anchor": {"body": FULL},
            }
        }
        icons["icons"]["light"] = {"body": GREEN if style == "noto" else FULL}
        icons |= {
            "aliases": {"moon": {"parent": "flip"}, "flip": {"parent": "sun", "hFlip": True}},
            "width": 16,
            "height": 16,
        }
        if style == "twemoji":
            icons["icons"]["sun"] = {"body": FULL}
        package(
            folder,
            name,
            {
                "icons.json": icons,
                "info.json": {
                    "license": {"spdx": f"L-{style}", "title": "t", "url": "u"},
                    "author": {"name": f"A {style}"},
                },
                "chars.json": {
                    "2600": "sun",
                    "1f44b": "wave",
                    "1f44b-1f3fb": "light",
                    "1f31d": "moon",
                    "0061": "letter",
                    "2693": "anchor",
                },
                "metadata.json": {
                    "categories": {
                        "Sky": ["sun", "moon", "anchor"],
                        "People": ["wave", "light"],
                        "Extras Other": ["letter"],
                    }
                },
            },
        )
    return str(folder)


@pytest.fixture
def made(cache, tmp_path) -> str:
    prepare_emoji(tmp_path / "emoji", size=16, styles=("noto", "twemoji"), cache=cache)
    return str(tmp_path / "emoji")


def rows(path: str) -> dict:
    found = [json.loads(line) for line in (Path(path) / INDEX).read_text("utf-8").splitlines()]
    return {(row["id"], row["style"]): row for row in found}


def both(path: str, **options) -> list[dict]:
    sources = [Emoji(path, use=use, **options) for use in ("train", "valid")]
    records = []
    for source in sources:
        try:
            records += [validate(source[i]) for i in range(len(source))]
        except UserError as error:
            assert "marks no emoji" in str(error)  # few emoji may all fall on one side
    return records


def test_preparation_follows_the_recipe(made):
    index = rows(made)
    ids = {"2600", "1f44b", "1f44b-1f3fb", "1f31d"}  # no letter (an extra), no anchor (no name)
    assert index.keys() == {(id, style) for id in ids for style in ("noto", "twemoji")}
    assert index["1f44b-1f3fb", "noto"]["skin_tone"] and not index["1f44b", "noto"]["skin_tone"]
    assert index["2600", "noto"]["zh"] == "太阳" and index["2600", "noto"]["en"] == "sun"
    assert (
        index["1f44b", "noto"]["duplicate_of"] == ""
        and index["1f44b-1f3fb", "noto"]["duplicate_of"] == ""
    )
    twins = {id: index[id, "twemoji"]["duplicate_of"] for id in ids}
    assert twins == {"1f31d": "", "1f44b": "1f31d", "1f44b-1f3fb": "1f31d", "2600": "1f31d"}
    assert {row["root"] for row in index.values()} == {
        "1f31d"
    }  # the twins of one style join all styles
    text = (Path(made) / "LICENSES.md").read_text()
    assert (
        "A noto" in text
        and PACKS["twemoji"] in text
        and "Unicode-3.0" in text
        and "openmoji" not in text
    )


def test_pictures_names_and_licences_go_together(made):
    records = {record["id"]: record for record in both(made)}
    sun, moon = records["2600/noto"], records["1f31d/noto"]
    assert sun["image"].shape == (16, 16, 3)
    assert sun["image"][8, 2].tolist() == [255, 0, 0] and sun["image"][8, 13].tolist() == [
        255,
        255,
        255,
    ]
    np.testing.assert_array_equal(
        moon["image"], sun["image"][:, ::-1]
    )  # an alias of an alias, flipped
    assert sun["captions"] == [
        {"text": "太阳", "language": "zh"},
        {"text": "sun", "language": "en"},
        {"text": "Noto风格的太阳表情", "language": "zh"},
        {"text": "an emoji of sun in Noto style", "language": "en"},
    ]
    assert sun["license"] == "L-noto" and records["2600/twemoji"]["license"] == "L-twemoji"
    keywords = both(made, styles=("noto",), wordings=("name", "keywords"))
    assert {c["text"] for record in keywords for c in record["captions"]} >= {
        "sun (sun, x)",
        "太阳（太阳、x）",
    }


def test_preparation_is_deterministic_and_whole_or_absent(cache, made, tmp_path):
    again = prepare_emoji(tmp_path / "again", size=16, styles=("noto", "twemoji"), cache=cache)
    assert again["records"] == 8 and again["emoji"] == 4 and again["duplicates"] == 3
    for file in ("dataset.json", INDEX, "LICENSES.md"):
        assert (tmp_path / "again" / file).read_bytes() == (Path(made) / file).read_bytes()
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(UserError, match="exists already"):
        prepare_emoji(made, cache=cache)
    (Path(cache) / "cldr-annotations-full-48.2.0.tgz").write_bytes(b"broken")
    with pytest.raises(UserError, match="cldr-annotations-full-48.2.0.tgz is broken"):
        prepare_emoji(tmp_path / "third", cache=cache)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_the_table_decides_and_the_unlisted_stay_out(made, tmp_path):
    table = tmp_path / "split.tsv"
    table.write_text(
        'id\tchar\tsplit\n2600-FE0F\t"\ttrain\n1f44b\tx\tvalid\n1f31d\tx\ttest\n', "utf-8"
    )
    train, valid = (Emoji(made, split=str(table), use=use) for use in ("train", "valid"))
    assert {record["emoji"]["id"] for record in map(train.__getitem__, range(len(train)))} == {
        "2600"
    }
    assert {record["emoji"]["id"] for record in map(valid.__getitem__, range(len(valid)))} == {
        "1f44b"
    }
    assert fingerprint(train) != fingerprint(valid)
    for text, named in (
        ("id\tkind\n", "columns id and split"),
        ("id\tsplit\nffff\ttrain\n", "marks no emoji"),
        ("id\tsplit\n2600\ttrain\n2600-fe0f\tvalid\n", "listed twice"),
    ):
        table.write_text(text)
        with pytest.raises(UserError, match=named):
            len(Emoji(made, split=str(table)))


def test_selections(made):
    assert len(both(made)) == 8
    assert len(both(made, skin_tones=False)) == 6
    assert len(both(made, duplicates=False)) == 5
    assert len(both(made, styles=("twemoji",))) == 4
    for options in (
        {"styles": ()},
        {"styles": ("apple",)},
        {"wordings": ("keywords",)},
        {"use": "test"},
        {"split": "/none"},
    ):
        with pytest.raises(UserError, match=next(iter(options))):
            len(Emoji(made, **options))


def test_own_split_is_one_in_twenty_concepts():
    valid = sum(own_split(f"{k:x}") == "valid" for k in range(4000))
    assert 150 < valid < 260


def test_variants_of_a_concept_are_grouped():
    names = {
        "1f91d": "handshake",
        "1faf1-1f3fb-200d-1faf2-1f3ff": "handshake: light skin tone, dark skin tone",
        "1f44b": "waving hand",
        "1f44b-1f3fb": "waving hand: light skin tone",
        "1f44c": "OK hand",
        "1f3c3": "person running",
        "1f3c3-200d-2640": "woman running",
    }
    groups = grouped({id: {"en": name} for id, name in names.items()})
    assert [groups.root(id) for id in names] == [
        "1f91d",
        "1f91d",
        "1f44b",
        "1f44b",
        "1f44c",
        "1f3c3",
        "1f3c3",
    ]


def test_without_npm_it_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(emoji_packages.shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="needs npm") as caught:
        prepare_emoji(tmp_path / "emoji", cache=str(tmp_path / "cache"))
    assert "\n" not in str(caught.value) and not (tmp_path / "emoji").exists()
    for options, named in (({"styles": ("apple",)}, "styles"), ({"size": 4}, "size=4")):
        with pytest.raises(UserError, match=named):
            prepare_emoji(tmp_path / "emoji", **options)


def test_ids_concepts_and_drawing():
    assert emoji_id("2600-FE0F") == "2600" and emoji_id("23-fe0f-20e3") == "0023-20e3"
    concepts = [
        "1f3c3",
        "1f3c3-1f3fb-200d-2640-200d-27a1",
        "1f468-200d-1f33e",
        "1f9d1-1f3ff-200d-1f33e",
        "1f468",
        "1f3fb",
    ]
    assert [concept(id) for id in concepts] == [
        "1f3c3",
        "1f3c3",
        "1f9d1-200d-1f33e",
        "1f9d1-200d-1f33e",
        "1f468",
        "1f3fb",
    ]
    assert name_without_skin_tones("handshake: light skin tone, dark skin tone") == "handshake"
    assert name_without_skin_tones("man: light skin tone, red hair") == "man: red hair"
    wide = {
        "body": '<rect width="32" height="16" fill="#f00"/>',
        "left": 0,
        "top": 0,
        "width": 32,
        "height": 16,
        "rotate": 0,
    }
    drawn = render(svg({**wide, "hFlip": False, "vFlip": False}), 16)
    assert (
        drawn.shape == (16, 16, 3)
        and drawn[8, 8].tolist() == [255, 0, 0]
        and drawn[1, 8].tolist() == [255, 255, 255]
    )
    tall = {**wide, "body": '<rect width="16" height="32" fill="#f00"/>', "width": 16, "height": 32}
    drawn = render(svg({**tall, "hFlip": False, "vFlip": False}), 16)
    assert drawn[8, 8].tolist() == [255, 0, 0] and drawn[8, 1].tolist() == [255, 255, 255]


def test_reading_the_pack_keeps_names_with_pictures(cache):
    pack = read_pack(Path(cache) / "iconify-json-noto-1.2.9.tgz")
    assert set(pack) == {"2600", "1f44b", "1f44b-1f3fb", "1f31d", "2693"}
    assert pack["2600"]["category"] == "Sky" and "scale(-1 1)" in pack["1f31d"]["svg"]


@pytest.mark.skipif(
    not (SHARED / "emoji_bilingual.train_valid.tsv").is_file(), reason="needs ../shared/data"
)
def test_the_shared_table_is_read(made):
    table = str(SHARED / "emoji_bilingual.train_valid.tsv")
    assert {record["emoji"]["id"] for record in both(made, split=table)} <= {
        "2600",
        "1f44b",
        "1f44b-1f3fb",
        "1f31d",
    }
    assert len(Emoji(made, split=table)._split_table()) == 3289
