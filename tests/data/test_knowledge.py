import dataclasses
import itertools
import json
from dataclasses import dataclass

import numpy as np
import pytest

from vilg.data.batch import HOST_ONLY
from vilg.data.knowledge import Knowledge, TrainingPrompt, machine_captions, mentions, raster
from vilg.data.loader import Loader
from vilg.data.records import largest_square, to_square
from vilg.data.scenes.source import Synthetic
from vilg.data.tagging import key_class, tagged
from vilg.data.text import TAGS, TextModel, train_text_model
from vilg.experiment import _data
from vilg.types import END, START, UserError

FIGURE, ENGLISH = "灰色 的 猫 和 棕色 的 狗", "a gray cat and a brown dog."
OFF = Knowledge(tags=0.0, attention=0.0, regions=0.0, completion=0.0, replacement=0.0)
SIZES = {"image_size": 8, "text_length": 40, "grid": (4, 4)}


@pytest.fixture(scope="module")
def captions():
    texts = [
        FIGURE,
        FIGURE.replace(" ", ""),
        ENGLISH,
        "[n] 碗 bowl",
        "a large machine",
        "一只白色的小狗坐在草地上",
    ] * 10
    return texts + [c["text"] for i in range(60) for c in Synthetic()[i]["captions"]]


@pytest.fixture(scope="module")
def plain_model(captions, tmp_path_factory) -> TextModel:
    return train_text_model(captions, 420, tmp_path_factory.mktemp("text") / "plain.model")


@pytest.fixture(scope="module")
def model(captions, tmp_path_factory) -> TextModel:
    return train_text_model(
        captions, 426, tmp_path_factory.mktemp("text") / "tags.model", tags=True
    )


@dataclass(frozen=True)
class Made:
    """Wide pictures, each with one box and machine captions."""

    n: int = 400

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        return {
            "id": str(i),
            "image": np.full((8, 16, 3), i % 200, np.uint8),
            "captions": [{"text": FIGURE, "language": "zh"}, {"text": ENGLISH, "language": "en"}],
            "boxes": [
                {
                    "xyxy": [0.5, 0.25, 0.625, 0.75],
                    "label": "bowl",
                    "labels": {"zh": "碗"},
                    "score": 0.9,
                }
            ],
            "machine_captions": ["a machine", "机器"],
        }


def stream(model, knowledge, source=None, loader=None, **sizes):
    return (loader or Loader()).stream(
        source or Made(), model, **{"batch_size": 20, "knowledge": knowledge, **SIZES, **sizes}
    )


def batches(model, knowledge, steps=20, **options):
    return list(itertools.islice(stream(model, knowledge, **options), steps))


def shown(model, ids) -> str:
    names = {id: f"[{name}]" for name, id in TAGS.items()}
    return " ".join(names.get(id) or model.processor.id_to_piece(int(id)) for id in ids)


def test_the_row_of_the_paper_s_figure(model):
    text, names = FIGURE + " ， 碗", {id: f"[{name}]" for name, id in TAGS.items()}
    ids, truncated, key = OFF_BUT(tags=1.0, attention=1.0).encode(
        model, TrainingPrompt(text, "zh"), 40, 0
    )
    stop = ids.tolist().index(END)
    runs = [list(run) for _, run in itertools.groupby(ids[1:stop].tolist(), names.get)]
    said = "".join(names.get(run[0]) or model.decode(run)[0] for run in runs)
    assert "".join(said.split()) == "[a]灰色的[n]猫和[a]棕色的[n]狗，[n]碗"
    plain = [id for id in ids.tolist() if id not in names]
    assert plain == model.encode(text, "zh", 40)[0][: len(plain)].tolist() and not truncated
    assert ids[0] == START["zh"] and ids[1] == TAGS["a"] == END + 1 and not ids[stop + 1 :].any()
    assert model.decode([START["zh"], *ids[key].tolist()])[0].replace(" ", "") == "灰色猫棕色狗碗"
    assert model.decode(ids) == (text, "zh")


def OFF_BUT(**on):
    return dataclasses.replace(OFF, **on)


def key_characters(text, language):
    """Indices of the non-blank characters of key words, by the tagger alone."""
    out, k = set(), 0
    for word, tag in tagged(text, language):
        out |= set(range(k, k + len(word))) if key_class(tag) else set()
        k += len(word)
    return out


@pytest.mark.parametrize("han_characters", [True, False])
@pytest.mark.parametrize("tags_are_key", [True, False])
def test_key_pieces_equal_brute_force_by_decoding(captions, tmp_path, han_characters, tags_are_key):
    model = train_text_model(
        captions, 426, tmp_path / "t.model", han_characters=han_characters, tags=True
    )
    knowledge = OFF_BUT(tags=1.0, attention=1.0, tags_are_key=tags_are_key)
    strange = ["  a  鼬 [n] dog ▁ x", "▁a gray", "🐶 cat\t狗　é", "don't", "的", "狗"]
    for text in [*captions[:6], *captions[60:90], *strange]:
        language = "zh" if any("一" <= c for c in text) else "en"
        ids, truncated, key = knowledge.encode(model, TrainingPrompt(text, language), 160, 0)
        assert not truncated
        untagged = [int(i) for i in ids if i not in TAGS.values()]
        assert untagged == model.encode(text, language, 160)[0][: len(untagged)].tolist()
        wanted, consumed = key_characters(text, language), b""
        plain = "".join(text.replace("▁", " ").split(" "))
        ends = np.cumsum([len(c.encode()) for c in plain])
        blanks = [
            k for k, c in enumerate(c for c in text if not c.isspace()) if c == "▁"
        ]  # the tagger sees these, the model does not
        wanted = {k - sum(b < k for b in blanks) for k in wanted if k not in blanks}
        tabs = [
            k for k, c in enumerate(plain) if c.isspace()
        ]  # the model sees these, the tagger does not
        for tab in tabs:
            wanted = {k + (k >= tab) for k in wanted}
        for id, is_key in zip(ids[1 : ids.tolist().index(END)].tolist(), key[1:], strict=False):
            if id in TAGS.values():
                assert is_key == tags_are_key
                continue
            piece = model.processor.id_to_piece(id)
            held = (
                bytes([int(piece[3:5], 16)])
                if model.processor.is_byte(id)
                else piece.replace("▁", "").encode()
            )
            first, last = len(consumed), len(consumed) + len(held)
            touched = {
                k
                for k, end in enumerate(ends)
                if end > first and end - len(plain[k].encode()) < last
            }
            assert is_key == bool(touched & wanted), (text, piece)
            consumed += held
        assert consumed.decode() == plain


def test_no_text_becomes_a_special_token_and_plain_models_stay(
    model, plain_model, captions, tmp_path
):
    assert model.tags == TAGS and plain_model.tags == {}
    for text in ("[n] [a]", "[n]猫", "[r]"):
        assert not set(model.encode(text, "en", 30)[0][1:].tolist()) & set(TAGS.values())
        assert model.decode(model.encode(text, "en", 30)[0])[0] == text
    first, *rest = (model.processor.piece_to_id(f"<0x{byte:02X}>") for byte in "鼬".encode())
    assert model.decode([START["zh"], first, TAGS["n"], *rest, END]) == ("鼬", "zh")
    again = train_text_model(captions, 420, tmp_path / "again.model")
    assert (
        again.sha256 == plain_model.sha256
        and plain_model.processor.id_to_piece(END + 1) == "<0x00>"
    )
    with pytest.raises(UserError, match="bytes and control symbols take 267"):
        train_text_model(captions, 270, tmp_path / "small.model", tags=True)
    with pytest.raises(
        UserError,
        match=(
            "data.knowledge.tags=1.0: the text model .*plain.model has no special tokens; train it"
            " with tags"
        ),
    ):
        stream(plain_model, OFF_BUT(tags=1.0))
    assert stream(plain_model, OFF_BUT(attention=1.0))


def test_a_cut_row_ends_with_a_piece_of_a_word(model):
    for length in range(3, 14):
        ids, truncated, key = OFF_BUT(tags=1.0, attention=1.0).encode(
            model, TrainingPrompt(FIGURE, "zh"), length, 0
        )
        inside = ids[1 : int(np.argmax(ids == END))]
        assert (
            truncated
            and (len(inside) == 0 or inside[-1] not in TAGS.values())
            and len(inside) >= length - 3
        )
        assert len(key) == length and not key[len(inside) + 1 :].any()


def test_columns_of_the_record_come_before_the_tagger(model):
    words = [
        [{"text": "灰色", "tag": "n"}, {"text": "狗", "tag": "NOUN"}],
        [{"text": "somewhere else", "tag": "n"}],
    ]
    record = {**Made()[0], "words": words, "machine_words": [[{"text": "machine", "tag": "v"}], []]}
    knowledge = OFF_BUT(tags=1.0, attention=1.0)
    zh, en = (knowledge.prompt(record, c, ("zh", "en"), 0) for c in record["captions"])
    assert zh.key_words() == [(0, 2, "n"), (FIGURE.index("狗"), len(FIGURE), "n")]
    assert [name for *_, name in en.key_words()] == [
        "a",
        "n",
        "a",
        "n",
    ]  # its column does not fit the caption
    replaced = dataclasses.replace(knowledge, replacement=1.0).prompt(
        record, record["captions"][1], ("zh", "en"), 0
    )
    always, english = dataclasses.replace(knowledge, replacement=1.0), record["captions"][1]
    assert {always.prompt(record, english, ("zh", "en"), k).text for k in range(20)} == {
        "a machine"
    }  # of the caption's language
    other = always.prompt({**record, "machine_captions": ["机器"]}, english, ("zh", "en"), 0)
    assert (other.text, other.language) == ("机器", "zh")
    assert (
        always.prompt({**record, "machine_captions": ["机器"]}, english, ("en",), 0).text == ENGLISH
    )
    assert replaced.text == "a machine" and replaced.key_words() == [(2, 9, "v")]


@pytest.mark.parametrize("grid", [(4, 4), (7, 5), (16, 16)])
def test_regions_equal_brute_force_over_crops(grid):
    rng = np.random.default_rng(0)
    for trial in range(60):
        height, width = rng.integers(5, 40, 2).tolist()
        key = int(rng.integers(2**40)) if trial % 2 else None
        pixels = np.sort(
            rng.integers(0, [[[height, width]]], (3, 2, 2)), 1
        ).tolist()  # corners on pixels: (y, x)
        boxes = [
            {"xyxy": [x0 / width, y0 / height, (x1 + 1) / width, (y1 + 1) / height]}
            for (y0, x0), (y1, x1) in pixels
        ]
        knowledge = Knowledge(smallest=0.0, largest=1.0, visible=0.0)
        left, top, side = largest_square(height, width, key)
        mask = np.zeros((height, width), bool)
        for (y0, x0), (y1, x1) in pixels:
            mask[y0 : y1 + 1, x0 : x1 + 1] = True
        crop = mask[top : top + side, left : left + side]
        fine = crop.repeat(grid[0], 0).repeat(
            grid[1], 1
        )  # every pixel in as many parts as there are cells
        expected = fine.reshape(grid[0], side, grid[1], side).any((1, 3))
        objects = knowledge.salient(
            {"image": np.zeros((height, width, 3), np.uint8), "boxes": boxes}, (left, top, side)
        )
        np.testing.assert_array_equal(
            dataclasses.replace(knowledge, regions=1.0).region(objects, grid, 0), expected
        )
        if (height, width) == (side, side):
            np.testing.assert_array_equal(expected, raster([b["xyxy"] for b in boxes], grid))


def test_the_region_lies_where_the_loader_puts_the_picture(model):
    @dataclass(frozen=True)
    class Lit(Made):
        def __getitem__(self, i):
            record = super().__getitem__(i)
            image = np.zeros((8, 16, 3), np.uint8)
            image[2:6, 8:10] = 255  # where the box is
            return {**record, "image": image}

    seen = set()
    for batch in batches(
        model,
        OFF_BUT(regions=1.0, visible=0.0, smallest=0.0),
        5,
        source=Lit(),
        loader=Loader(random_crop=True),
        grid=(8, 8),
    ):
        np.testing.assert_array_equal(batch["region"], batch["image"][..., 0] > 0)
        seen |= {tuple(row.any(0).nonzero()[0]) for row in batch["region"]}
    assert len(seen) > 4
    assert to_square(Lit()[0]["image"], 8).any()


def test_salient_objects():
    def box(xyxy, **more):
        return {"xyxy": xyxy, "label": "x", **more}

    boxes = [
        box([0, 0, 0.5, 0.5], score=0.4),
        box([0, 0, 0.5, 0.5], score=0.2),
        box([0, 0, 0.05, 0.05]),
        box([0, 0, 1, 1]),
        box([0.5, 0.5, 0.9, 0.9], score=0.8),
        box([0.1, 0.1, 0.4, 0.4], score=0.8),
        box([0, 0.5, 0.4, 0.9], score=0.5),
    ]
    record = {"image": np.zeros((10, 10, 3), np.uint8), "boxes": boxes}
    found = Knowledge(objects=3).salient(record, (0, 0, 10))
    assert [(b["score"], round(b["xyxy"][0], 3)) for b in found] == [
        (0.8, 0.5),
        (0.8, 0.1),
        (0.5, 0),
    ]
    assert (
        len(Knowledge(score=0.0, smallest=0.0, largest=1.0, objects=9).salient(record, (0, 0, 10)))
        == 7
    )
    wide = {
        "image": np.zeros((10, 20, 3), np.uint8),
        "boxes": [box([0.2, 0, 0.6, 0.5]), box([0.1, 0.5, 0.35, 0.9])],
    }
    assert [b["xyxy"] for b in Knowledge().salient(wide, (5, 0, 10))] == [
        (0.0, 0.0, pytest.approx(0.7), 0.5)
    ]


def test_completion_names_what_is_absent(model):
    record = Made()[0]
    knowledge = OFF_BUT(completion=1.0, tags=1.0, attention=1.0)
    objects = [
        *record["boxes"],
        *record["boxes"],
        {"label": "Cat"},
        {"label": "dog", "labels": {"zh": "狗"}},
        {"label": "tall tree"},
    ]
    zh, en = (
        knowledge.completed(knowledge.prompt(record, c, ("zh", "en"), 0), objects, 0)
        for c in record["captions"]
    )
    assert zh.text == FIGURE + "，碗" and en.text == "a gray cat and a brown dog, bowl, tall tree"
    ids, _, key = knowledge.encode(model, en, 40, 0)
    assert shown(model, ids).count("[n]") == 4 and model.decode([START["en"], *ids[key].tolist()])[
        0
    ].split()[-3:] == ["bowl", "tall", "tree"]
    assert (
        zh.key_words()[-1] == (len(FIGURE) + 1, len(FIGURE) + 2, "n") and len(zh.key_words()) == 5
    )
    assert mentions("two large squares", "square", "en") and not mentions(
        "a catalogue", "cat", "en"
    )
    with_stop = TrainingPrompt(
        "狗。", "zh", ({"text": "狗", "tag": "n"}, {"text": "。", "tag": "x"})
    )
    assert knowledge.completed(with_stop, objects[:1], 0).key_words() == [(0, 1, "n"), (2, 3, "n")]


def test_shares_are_as_configured_and_kinds_are_independent(model):
    knowledge = Knowledge(tags=0.5, attention=0.25, regions=0.5, completion=0.3, replacement=0.1)
    rows = {name: [] for name in ("tags", "key", "region", "completed", "replaced")}
    for batch in batches(model, knowledge, 100):
        rows["tags"] += np.isin(batch["text"], list(TAGS.values())).any(1).tolist()
        rows["key"] += batch["key"].any(1).tolist()
        rows["region"] += batch["region"].any((1, 2)).tolist()
        rows["completed"] += [c.endswith(("bowl", "碗")) for c in batch["captions"]]
        rows["replaced"] += [c.startswith(("a machine", "机器")) for c in batch["captions"]]
    share = {name: np.mean(values) for name, values in rows.items()}
    for name, wanted in {
        "tags": 0.5,
        "key": 0.25,
        "region": 0.5,
        "completed": 0.3,
        "replaced": 0.1,
    }.items():
        assert abs(share[name] - wanted) < 3 * np.sqrt(wanted * (1 - wanted) / 2000), (
            name,
            share[name],
        )
    v = {name: np.array(values) for name, values in rows.items()}
    assert (
        not (v["key"] & ~v["tags"]).any() and not (v["completed"] & ~v["region"]).any()
    )  # the same samples, nested
    assert (
        abs((v["tags"] & v["region"]).mean() - 0.25) < 0.035
        and abs((v["replaced"] & v["tags"]).mean() - 0.05) < 0.02
    )


@pytest.mark.parametrize("name", ["tags", "attention", "regions", "completion", "replacement"])
def test_each_switch_leaves_the_others_alone(model, name):
    full = OFF_BUT(tags=0.5, attention=0.5, regions=0.5, completion=0.5, replacement=0.5)
    for one, two in zip(
        batches(model, full, 3),
        batches(model, dataclasses.replace(full, **{name: 0.0}), 3),
        strict=True,
    ):
        changed = {k for k in one if not np.array_equal(one[k], two[k])}
        allowed = {
            "tags": {"text", "key", "truncated"},
            "attention": {"key"},
            "regions": {"region"},
            "completion": {"text", "key", "captions", "truncated"},
            "replacement": {"text", "key", "captions", "truncated", "language"},
        }
        assert changed and changed <= allowed[name]


def test_without_knowledge_batches_are_bitwise_as_before(model):
    plain = Loader(random_crop=True).stream(
        Made(), model, image_size=8, text_length=40, batch_size=20
    )
    off = stream(model, OFF, loader=Loader(random_crop=True))
    for one, two in zip(itertools.islice(plain, 3), off, strict=False):
        assert (
            set(two) - set(one) == {"key", "region"}
            and not two["key"].any()
            and not two["region"].any()
        )
        assert set(one) - set(HOST_ONLY) == {"image", "text", "truncated"}
        for name in one:
            np.testing.assert_array_equal(one[name], two[name])
    assert set(off.identity()) - set(plain.identity()) == {"knowledge", "grid"}
    once = next(Loader().once(Made(), model, image_size=8, text_length=40, batch_size=4))
    assert "key" not in once and "region" not in once and set(once["captions"]) <= {FIGURE, ENGLISH}
    assert "key" not in next(stream(None, Knowledge(), text_length=0)) and "region" not in next(
        stream(model, Knowledge(), grid=None)
    )


def test_selection_is_the_same_whatever_the_process_count(model):
    whole = batches(model, Knowledge(), 5)
    halves = [batches(model, Knowledge(), 5, process_index=p, process_count=2) for p in (0, 1)]
    for k, batch in enumerate(whole):
        for name in batch:
            np.testing.assert_array_equal(batch[name], [*halves[0][k][name], *halves[1][k][name]])


def test_checkpoints_know_the_knowledge(model):
    plain = Loader().stream(Made(), model, image_size=8, text_length=40, batch_size=20)
    state = json.loads(json.dumps(stream(model, Knowledge()).get_state()))
    stream(model, Knowledge()).set_state(state)
    for other in (plain, stream(model, Knowledge(tags=0.4))):
        with pytest.raises(UserError, match="data knowledge="):
            other.set_state(state)
    with pytest.raises(UserError, match="data knowledge="):
        stream(model, Knowledge()).set_state(plain.get_state())


def test_bad_annotations_are_bad_records(model):
    @dataclass(frozen=True)
    class Spoilt(Made):
        def __getitem__(self, i):
            more = {
                1: {"machine_captions": [3]},
                2: {"words": [["x"], []]},
                3: {"boxes": [{"xyxy": [0, 0, 1, 1], "score": 2}]},
                4: {"words": 5},
            }
            return {**super().__getitem__(i), **more.get(i, {})}

    found = stream(model, Knowledge(), source=Spoilt(n=20))
    next(found)
    assert (
        sorted(found.bad) == ["1", "2", "3", "4"]
        and "not text" in found.bad["1"]
        and "words is not a list" in found.bad["2"]
    )
    plain = Loader().stream(Spoilt(n=20), model, image_size=8, text_length=40, batch_size=20)
    next(plain)
    assert not plain.bad


def test_the_config_section():
    section = {"train": {"name": "synthetic"}, "valid": {"name": "synthetic"}}
    assert (
        _data(section).knowledge is None and _data({**section, "knowledge": None}).knowledge is None
    )
    assert _data({**section, "knowledge": {"tags": 0.25}}).knowledge == Knowledge(tags=0.25)
    for fields, named in (
        ({"tags": 1.5}, "data.knowledge.tags=1.5"),
        ({"region": 0.5}, "data.knowledge.region=0.5: unknown field"),
        ({"objects": 0}, "objects=0"),
        ({"smallest": 0.9}, "smallest=0.9"),
        ({"score": 3.0}, "score=3.0"),
    ):
        with pytest.raises(UserError, match=named):
            _data({**section, "knowledge": fields})
    assert machine_captions(Made()[0])[1] == {"text": "机器", "language": "zh"}
