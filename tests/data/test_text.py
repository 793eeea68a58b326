import hashlib
import pickle

import numpy as np
import pytest

from vilg.data.text import END, PAD, START, UNKNOWN, TextModel, train_text_model
from vilg.types import UserError

TEXTS = ["picture number 3", "第3张图片", "mixed 图片 and words", "，。：“”", "emoji 😀 and ﬁ"]
TEXTS += ["<end> <pad> <start_zh>", "UPPER lower", "龘"]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("language", ["zh", "en"])
def test_encode_then_decode_is_exact(text_model, text, language):
    ids, truncated = text_model.encode(text, language, 96)
    assert not truncated and ids.dtype == np.int32 and ids.shape == (96,)
    assert text_model.decode(ids) == (text, language)
    assert ids[0] == START[language]
    end = ids.tolist().index(END)
    assert (ids[end + 1 :] == PAD).all()
    inner = set(ids[1:end].tolist())
    assert not inner & {PAD, UNKNOWN, END, *START.values()} and max(inner) < text_model.size


def test_truncation_is_said_and_keeps_the_end(text_model):
    ids, truncated = text_model.encode("picture " * 50, "en", 8)
    assert truncated and ids[0] == START["en"] and ids[-1] == END and (ids != PAD).all()
    exact = int((text_model.encode("picture number", "en", 64)[0] != PAD).sum())
    assert text_model.encode("picture number", "en", exact)[1] is False
    assert text_model.encode("picture number", "en", exact - 1)[1] is True


def test_decode_survives_what_a_sampler_may_draw(text_model):
    assert text_model.decode([]) == ("", None)
    assert text_model.decode([START["zh"], END, 300]) == ("", "zh")
    broken, language = text_model.decode(
        [START["en"], text_model.size + 5, 5 + 0xE7, UNKNOWN, START["zh"]]
    )
    assert language == "en" and broken.count("\ufffd") == 4
    assert text_model.decode(np.array([START["en"], PAD, 300])) == ("", "en")


def test_training_is_deterministic_and_small_corpora_work(tmp_path, text_model):
    lines = ["a red dog", "一只红色的狗", "two dogs", "两只狗"] * 3
    one = train_text_model(lines, 5000, tmp_path / "a" / "one.model")
    two = train_text_model(iter(lines), 5000, tmp_path / "two.model")
    assert (
        one.sha256
        == two.sha256
        == hashlib.sha256((tmp_path / "two.model").read_bytes()).hexdigest()
    )
    assert 261 < one.size < 400 and one.sha256 != text_model.sha256
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "two.model"]
    tiny = train_text_model(lines, 269, tmp_path / "tiny.model")
    assert tiny.size <= 269 and tiny.decode(tiny.encode("一只红色的狗", "zh", 64)[0]) == (
        "一只红色的狗",
        "zh",
    )


def test_han_characters_are_pieces_of_their_own(tmp_path):
    lines = ["一只红色的狗，跑", "一只红色的猫，跑"] * 20
    split = train_text_model(lines, 400, tmp_path / "split.model")
    whole = train_text_model(lines, 400, tmp_path / "whole.model", han_characters=False)
    assert (split.encode(lines[0], "zh", 32)[0] > END).sum() == 8
    assert (whole.encode(lines[0], "zh", 32)[0] > END).sum() < 8


def test_mistakes_are_sentences(tmp_path):
    with pytest.raises(UserError, match="no captions"):
        train_text_model(["  "], 400, tmp_path / "x")
    with pytest.raises(UserError, match="vocabulary=100"):
        train_text_model(["a"], 100, tmp_path / "x")
    with pytest.raises(UserError, match="no such file"):
        TextModel(str(tmp_path / "none"))
    (tmp_path / "junk").write_bytes(b"junk")
    with pytest.raises(UserError, match="not a SentencePiece model"):
        TextModel(str(tmp_path / "junk")).encode("a", "en", 8)


def test_pickled_model_is_its_path(text_model):
    text_model.encode("a", "en", 8)
    copy = pickle.loads(pickle.dumps(text_model))
    assert copy == text_model and copy.__dict__.keys() == {"path"}
    assert copy.encode("a", "en", 8)[0].tolist() == text_model.encode("a", "en", 8)[0].tolist()
