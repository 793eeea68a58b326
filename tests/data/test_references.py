"""Files of captions in every form, and the matching of two of them."""

import json

import pytest

from vilg.data.caption_files import READERS, read_captions
from vilg.data.references import KEYS, join, predictions_of, references_of
from vilg.types import UserError


@pytest.fixture
def write(tmp_path):
    """A function that writes a file of lines, JSON or bytes and returns its path."""

    def write(name, content):
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif name.endswith(".jsonl"):
            path.write_text(
                "".join(
                    (line if isinstance(line, str) else json.dumps(line, ensure_ascii=False)) + "\n"
                    for line in content
                )
            )
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def texts(items):
    return {item.name: [text for text, _ in item.captions] for item in items}


def test_every_form_of_the_same_captions_reads_the_same(write):
    wanted = {"7": ["一 只 狗", "狗"], "8": ["a cat"]}
    annotations = [
        {"image_id": 7, "caption": "一 只 狗", "id": 1},
        {"image_id": 8, "caption": "a cat", "id": 2},
        {"image_id": 7, "caption": "狗"},
    ]
    forms = {
        "a.jsonl": [
            {"id": 7, "captions": ["一 只 狗", {"text": "狗", "language": "zh"}]},
            "",
            {"id": "8", "caption": "a cat"},
        ],
        "b.json": {"images": [{"id": 7, "file_name": "x.jpg"}], "annotations": annotations},
        "c.json": {"annotations": annotations},
        "d.json": [
            {"image_id": 7, "caption": ["一 只 狗", "狗"], "url": ""},
            {"image_id": 8, "caption": "a cat"},
        ],
        "e.json": {
            "images": {
                "7": {"file_name": "x.jpg", "refs": ["一 只 狗", "狗"], "hyps": {}},
                "8": {"refs": ["a cat"]},
            }
        },
        "f.txt": "7#0\t一 只 狗\n8#0\ta cat\n7#1\t狗\n\n",
        "g.jsonl": (
            b"\xef\xbb\xbf"
            + '{"id": 7, "captions": ["一 只 狗", "狗"]}\r\n'.encode()
            + b'{"image": "8", "caption": "a cat"}'
        ),
    }
    for name, content in forms.items():
        assert texts(read_captions(write(name, content), "references")) == wanted, name
    assert read_captions(write("b.json", forms["b.json"]), "references")[0].image == "x.jpg"


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("a.csv", "x", "is of unknown format; give a file that ends in .jsonl, .json, .txt"),
        ("a.jsonl", [{"id": 1, "caption": "a"}, "{'id': 2}"], "line 2 is not JSON"),
        ("a.jsonl", ["[" * 100_000], "line 1 is not JSON"),
        ("a.jsonl", [{"id": 1, "caption": "a"}, "3"], "line 2 is not an object"),
        ("a.jsonl", [{"caption": "a"}], "line 1 has no id and no image"),
        ("a.jsonl", [{"id": 1, "captions": []}], "line 1 has no captions"),
        ("a.jsonl", [{"id": 1}], "line 1 has no captions"),
        ("a.jsonl", [{"id": 1, "captions": [3]}], "line 1 has the caption 3"),
        ("a.jsonl", [{"id": 1, "captions": [{"txt": "a"}]}], "has the caption .*'txt'"),
        ("a.jsonl", [{"id": 1.5, "caption": "a"}], "line 1 has id=1.5"),
        ("a.jsonl", [{"id": True, "caption": "a"}], "line 1 has id=True"),
        (
            "a.jsonl",
            [{"id": 1, "caption": "a"}, {"id": "1", "caption": "b"}],
            "line 2 repeats '1' of line 1",
        ),
        ("a.jsonl", [{"image": "x", "caption": "a"}] * 2, "line 2 repeats 'x' of line 1"),
        ("a.jsonl", [], "holds no captions"),
        ("a.jsonl", b'{"id": 1, "caption": "a"}\n\xff', "line 2 is not UTF-8"),
        ("a.json", '{"annotations":\n 3,}', "line 2 is not JSON"),
        (
            "a.json",
            {"annotations": [{"image_id": 1, "bbox": []}]},
            "annotation 0 has no image_id and caption",
        ),
        ("a.json", {"captions": {}}, "is of unknown form"),
        ("a.json", {"images": {"7": 3}}, "image '7' is not an object"),
        ("a.txt", "x#0\ta\nno tab", "line 2 is not NAME#k"),
        ("a.txt", "x\ta", "line 1 is not NAME#k"),
    ],
)
def test_bad_files_are_refused_with_their_line(write, name, content, said):
    with pytest.raises(UserError, match=f"^references='.*{name}': .*{said}"):
        read_captions(write(name, content), "references")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="predictions='.*x.json': cannot be read"):
        read_captions(tmp_path / "x.json", "predictions")


def named(write, *rows, field="references"):
    return read_captions(
        write(f"{field}.jsonl", [{"captions": ["a"], **row} for row in rows]), field
    )


PAIRS = (
    ([{"id": 2}, {"id": 1}], [{"id": "1"}, {"id": "2"}], "id"),
    (
        [{"image": "b"}, {"image": "a"}],
        [{"image": "a", "id": 5}, {"image": "b", "id": 6}],
        "image",
    ),
    (
        [{"id": "b.png"}, {"id": "a.png"}],
        [{"image": "a.png"}, {"image": "b.png"}],
        "id or image",
    ),
    (
        [{"image": "out/b.png"}, {"image": "out\\a.png"}],
        [{"image": "x/a.png", "id": 1}, {"image": "b.png", "id": 2}],
        "file name",
    ),
    (
        [{"image": "out/b.png"}, {"image": "out/a.v2.png"}],
        [{"id": "a.v2"}, {"id": "b"}],
        "file name without ending",
    ),
)
AIC = "AIC-ICC number of the file name"


def test_every_key_and_every_reader_has_a_test_here():
    assert {label for *_, label in PAIRS} | {AIC} == set(KEYS)
    one_item = {
        ".jsonl": '{"id": 1, "caption": "a"}',
        ".json": '[{"image_id": 1, "caption": "a"}]',
        ".txt": "1#0\ta",
    }
    assert set(one_item) == set(READERS)
    for ending, text in one_item.items():
        (item,) = READERS[ending](text, "references='x'")
        assert (item.name, item.captions) == ("1", (("a", None),))


@pytest.mark.parametrize("left, right, label", PAIRS)
def test_items_are_matched_by_what_both_sides_have(write, left, right, label):
    places, by = join(named(write, *left, field="predictions"), named(write, *right))
    assert places == [1, 0] and by == label


def test_aic_numbers_are_the_sha256_of_names(write):
    names = "d9a9a8cfb9fdebe3f4f6996756ae23ae0e473d0c", "2da70f0e6fe46642a18f35ed72c7c0b5f6fca09d"
    references = named(
        write, {"id": 6678090646845985471}, {"id": 2672643569347560246}
    )  # as its authors published them
    for rows in (
        [{"id": n} for n in reversed(names)],
        [{"image": f"x/{n}.jpg"} for n in reversed(names)],
    ):
        assert join(named(write, *rows, field="predictions"), references) == (
            [1, 0],
            AIC,
        )


def test_one_side_without_the_other_is_counted(write):
    three, two = (
        named(write, {"id": 1}, {"id": 2}, {"id": 3}),
        named(write, {"id": 1}, {"id": 9}, field="predictions"),
    )
    said = (
        "1 of 2 predictions have no references and 2 of 3 items of references have no prediction,"
        " joined by id .*'9'"
    )
    with pytest.raises(UserError, match=said):
        join(two, three)
    with pytest.raises(
        UserError,
        match="predictions: 1 of 3 items of references have no prediction, joined by id .*'3'",
    ):
        join(three[:2], three)
    with pytest.raises(UserError, match="1 of 2 predictions have no references, .*'9'"):
        join(two, three[:1])
    ambiguous = (
        named(write, {"id": "a/x.png"}, {"image": "b/x.png"}),
        named(write, {"id": 1}, {"image": 2}, field="predictions"),
    )
    with pytest.raises(UserError, match="2 of 2 predictions have no references and 2 of 2 items"):
        join(*reversed(ambiguous))


def test_only_captions_of_the_language_count(write):
    def references(language, *captions):
        return references_of(
            named(write, *({"id": i, "captions": c} for i, c in enumerate(captions))),
            language,
            "references='x'",
        )

    told = [
        [{"text": "a dog", "language": "en"}, {"text": "LOGO", "language": "zh"}],
        [{"text": "狗", "language": "zh"}, "a cat"],
    ]
    assert references("zh", *told) == ([["LOGO"], ["狗"]], 2)
    assert references("en", *told) == ([["a dog"], ["a cat"]], 2)
    assert references("zh", ["a dog", "狗"], ["猫"]) == ([["狗"], ["猫"]], 1)
    # one caption in another script, in a file of one language
    assert references("zh", *([["狗"]] * 19), ["NBA"]) == ([["狗"]] * 19 + [["NBA"]], 0)
    with pytest.raises(
        UserError,
        match="references='x': 1 of 2 items have no caption in 'zh' .*'1', line 2.*zh, en",
    ):
        references("zh", ["狗"], ["a dog"])
    with pytest.raises(UserError, match="line 1 has an empty caption"):
        references("zh", ["狗", " "])


def test_the_first_prediction_of_the_language_is_used(write):
    def predictions(language, *captions):
        items = named(
            write, *({"id": i, "captions": c} for i, c in enumerate(captions)), field="predictions"
        )
        return predictions_of(items, language, "predictions='x'")

    both = [
        {"text": "a dog", "language": "en"},
        {"text": "狗", "language": "zh"},
        {"text": "大狗", "language": "zh"},
    ]
    # a prediction without a stated language counts as one in the wanted language
    assert predictions("zh", both, ["a dog", "狗"], "") == ["狗", "a dog", ""]
    assert predictions("en", both) == ["a dog"]
    with pytest.raises(
        UserError, match="predictions='x': 1 of 2 items have no caption in 'en' .*line 2"
    ):
        predictions("en", both, both[1:])
