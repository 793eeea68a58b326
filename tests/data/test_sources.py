import io
import json
import os
import pickle
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from vilg.data.convert import convert
from vilg.data.folder import Folder
from vilg.data.records import BadRecord, encode_png, validate
from vilg.data.shards import HEAD, Shards, ShardsWriter, pack, unpack
from vilg.data.sources import (
    PATH_FIELDS,
    SOURCES,
    build_source,
    caption_texts,
    fingerprint,
    parse_source,
)
from vilg.data.webdataset import WebDataset
from vilg.types import UserError

PNG = encode_png(np.full((4, 5, 3), 9, np.uint8))


class Listed:
    """A source of a list of records."""

    def __init__(self, records):
        self.records = records

    def __len__(self):
        return len(self.records)

    def __getitem__(self, i):
        return self.records[i]


def folder(path: Path, *lines) -> Folder:
    path.mkdir(exist_ok=True)
    (path / "a.png").write_bytes(PNG)
    text = b"\n".join(
        line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines
    )
    (path / "captions.jsonl").write_bytes(b"\xef\xbb\xbf" + text)
    return Folder(str(path))


def tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as file:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize("kind", ["folder", "shards", "webdataset"])
def test_sources_are_random_access_picklable_and_shared_by_threads(tmp_path, records, kind):
    convert(Listed(records), kind, tmp_path / "made")
    source = parse_source(f"{kind}:{tmp_path / 'made'}")
    first = source[5]
    np.testing.assert_array_equal(first["image"], records[5]["image"])
    copy = pickle.loads(pickle.dumps(source))
    assert copy == source and copy.__dict__.keys() == {"path"}
    with ThreadPoolExecutor(4) as pool:
        ids = list(pool.map(lambda i: copy[i]["id"], [6, 0, 3] * 20))
    assert ids == ["made/6", "made/0", "made/3"] * 20
    os.rename(tmp_path / "made", tmp_path / "moved")
    moved = parse_source(f"{kind}:{tmp_path / 'moved'}")
    assert fingerprint(moved) == fingerprint(source)
    convert(Listed(records[:6]), kind, tmp_path / "fewer")
    assert fingerprint(parse_source(f"{kind}:{tmp_path / 'fewer'}")) != fingerprint(source)


def test_folder_reads_what_people_write(tmp_path):
    source = folder(
        tmp_path / "f",
        {
            "image": "a.png",
            "captions": ["a dog", {"text": "狗", "language": "zh"}],
            "license": "CC0",
        },
        b"",
    )
    assert len(source) == 1
    record = validate(source[0])
    assert (
        record["id"] == "a.png"
        and record["license"] == "CC0"
        and record["captions"][0] == {"text": "a dog", "language": "en"}
    )


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ({"image": "../secret.png", "captions": ["x"]}, "leads out"),
        ({"image": "/etc/hostname", "captions": ["x"]}, "leads out"),
        ({"image": "link.png", "captions": ["x"]}, "leads out"),
        ({"image": "none.png", "captions": ["x"]}, "cannot be read"),
        ({"image": "", "captions": ["x"]}, "cannot be read"),
        ({"image": "a\0b", "captions": ["x"]}, "cannot be read"),
        ({"captions": ["x"]}, "no image path"),
        ([1], "no image path"),
        (b"{", "not JSON"),
        (b'{"image": "\xff"}', "not UTF-8"),
        ({"image": "a.png", "captions": []}, "no captions"),
        ({"image": "a.png", "captions": [" "]}, "empty"),
    ],
)
def test_folder_bad_lines_are_bad_records(tmp_path, line, named):
    (tmp_path / "secret.png").write_bytes(PNG)
    source = folder(tmp_path / "f", line)
    (tmp_path / "f" / "link.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(BadRecord, match=named):
        source[0]


def test_shards_span_files_and_notice_damage(tmp_path, records):
    with ShardsWriter(tmp_path, per_file=3) as writer:
        for record in records:
            writer.write(record)
    source = Shards(str(tmp_path))
    assert len(source) == 7 and len(list(tmp_path.glob("*.array_record"))) == 3
    assert [source[i]["id"] for i in (6, 2, 3)] == ["made/6", "made/2", "made/3"]
    index = (tmp_path / "dataset.json").read_text()
    (tmp_path / "dataset.json").write_text(index.replace('"records": 7', '"records": 8'))
    with pytest.raises(UserError, match="7 records where"):
        len(Shards(str(tmp_path)))
    (tmp_path / "dataset.json").write_text(index)
    (tmp_path / "records-00002.array_record").unlink()
    with pytest.raises(UserError, match="records-00002.array_record is missing"):
        len(Shards(str(tmp_path)))
    (tmp_path / "dataset.json").write_text('{"format": "other"}')
    with pytest.raises(UserError, match="not of vilg-shards"):
        len(Shards(str(tmp_path)))


def test_packed_records_of_another_version_or_corrupt_are_bad(records):
    data = pack(records[0])
    assert unpack("x", data)["id"] == "made/0"
    later = HEAD.pack(b"VILG", 9, 3) + data[HEAD.size :]
    for broken, named in (
        (b"junk", "not a record"),
        (later, "version 9"),
        (data[:40], "corrupt"),
        (data[:-50], "decoded"),
    ):
        with pytest.raises(BadRecord, match=named):
            unpack("x", broken)


def test_webdataset_reads_foreign_tars(tmp_path):
    meta = json.dumps({"caption": "a cat", "license": "CC0"}).encode()
    tar(
        tmp_path / "b.tar",
        [("d/0.png", PNG), ("d/0.json", meta), ("d/1.PNG", PNG), ("d/1.txt", "一只狗".encode())],
    )
    tar(
        tmp_path / "a.tar",
        [("x.txt", b"first"), ("x.png", PNG), ("__MACOSX", b""), (".hidden", b"")],
    )
    source = WebDataset(str(tmp_path))
    found = [validate(source[i]) for i in range(len(source))]
    assert [record["id"] for record in found] == ["x", "d/0", "d/1"]
    assert [record["captions"][0]["text"] for record in found] == ["first", "a cat", "一只狗"]
    assert found[1]["license"] == "CC0" and "caption" not in found[1]
    assert (
        len(WebDataset(str(tmp_path / "?.tar"))) == 3
        and len(WebDataset(str(tmp_path / "a.tar"))) == 1
    )


def test_webdataset_bad_members_are_bad_records(tmp_path):
    tar(
        tmp_path / "a.tar",
        [
            ("0.txt", b"no picture"),
            ("1.png", PNG),
            ("2.png", PNG),
            ("2.json", b"{"),
            ("3.png", PNG),
            ("3.txt", b"\xff"),
            ("4.png", PNG),
            ("4.png", PNG),
            ("4.txt", b"x"),
            ("5.png", PNG[:30]),
            ("5.txt", b"x"),
            ("../../6.png", PNG),
            ("../../6.txt", b"fine"),
        ],
    )
    source = WebDataset(str(tmp_path / "a.tar"))
    for i, named in enumerate(
        ["no picture", "no captions", "JSON", "UTF-8", "two members", "decoded"]
    ):
        with pytest.raises(BadRecord, match=named):
            source[i]
    assert (
        source[6]["captions"][0]["text"] == "fine"
        and not (tmp_path.parent.parent / "6.png").exists()
    )


def test_a_cut_or_compressed_tar_is_a_sentence(tmp_path):
    whole = tar(tmp_path / "a.tar", [("0.png", PNG), ("0.txt", b"x" * 5000)]).read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[:2000])
    with pytest.raises(UserError, match="cut.tar"):
        len(WebDataset(str(tmp_path / "cut.tar")))
    with tarfile.open(tmp_path / "z.tar", "w:gz") as file:
        file.add(tmp_path / "a.tar")
    with pytest.raises(UserError, match="uncompressed"):
        len(WebDataset(str(tmp_path / "z.tar")))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("folder", "KIND:PATH"),
        ("floder:x", "did you mean 'folder'"),
        ("folder:/none", "captions.jsonl"),
        ("shards:/none", "dataset.json"),
        ("webdataset:/none", "no .tar"),
        ("emoji:/none", "vilg data prepare emoji"),
        ("synthetic:train,m=3", "unknown field"),
        ("synthetic:train,n=x", "whole number"),
        ("folder:", "path"),
    ],
)
def test_wrong_sources_are_sentences(text, named):
    with pytest.raises(UserError, match=named):
        len(parse_source(text))  # emoji looks at its files when it is first read


def test_sources_are_built_from_text_and_from_config():
    source = parse_source("synthetic:test,n=5,annotations=true,languages=en+zh,groups=0.5")
    assert (source.split, source.n, source.annotations, source.languages, source.groups) == (
        "test",
        5,
        True,
        ("en", "zh"),
        0.5,
    )
    assert parse_source("synthetic:n=5").n == 5 and parse_source("synthetic:test", n=7).n == 7
    assert build_source({"name": "synthetic", "n": 5}, "data").n == 5
    with pytest.raises(UserError, match=r"data.name='x'"):
        build_source({"name": "x"}, "data")
    assert fingerprint(parse_source("synthetic:n=5")) != fingerprint(parse_source("synthetic:n=6"))
    for kind, cls in SOURCES.items():
        assert (
            PATH_FIELDS.get(kind, "path") in cls.__dataclass_fields__
            and cls.__dataclass_params__.frozen
        )


def test_the_parts_of_a_split_are_the_source(tmp_path):
    """Each record is in one of the two, in order, and the last of every four is for validation;
    the place of the files does not matter."""
    whole = [f"synthetic/train/0/{i}" for i in range(11)]
    parts = {
        part: build_source(
            {"name": "split", "of": "synthetic:train,n=11", "part": part, "every": 4}, "data.train"
        )
        for part in ("train", "valid")
    }
    found = {part: [s[i]["id"] for i in range(len(s))] for part, s in parts.items()}
    assert found["valid"] == [whole[3], whole[7]]
    assert found["train"] == [id for id in whole if id not in found["valid"]]
    assert fingerprint(parts["train"]) != fingerprint(parts["valid"])
    for place in ("a", "b"):
        folder(tmp_path / place, *({"image": f"{i}.png", "captions": ["x"]} for i in range(4)))
    first, second = (parse_source(f"split:folder:{tmp_path / place},every=2") for place in "ab")
    assert fingerprint(first) == fingerprint(second) and len(first) == 2
    assert pickle.loads(pickle.dumps(first)) == first
    with pytest.raises(IndexError):
        parts["valid"][2]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"of": "folder:/none"}, "captions.jsonl"),
        ({"of": "synthetic:train", "every": 1}, "every=1: must be at least 2"),
        ({"of": "synthetic:train", "part": "test"}, "data.train.part='test'"),
    ],
)
def test_wrong_splits_are_sentences(fields, named):
    with pytest.raises(UserError, match=named):
        build_source({"name": "split", **fields}, "data.train")


def test_caption_texts_are_spread_over_the_source(records, tmp_path):
    assert len(list(caption_texts(Listed(records)))) == 21
    assert list(caption_texts(Listed(records), 2))[::3] == ["第0张图片", "第3张图片"]
    source = folder(
        tmp_path / "f",
        {"image": "a.png", "captions": ["x"]},
        b"{",
        {"image": "a.png", "captions": ["y"]},
    )
    assert list(caption_texts(source, None)) == ["x", "y"]
