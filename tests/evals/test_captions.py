"""The evaluator of captions on a captioner whose captions are known."""

import json
import types

import pytest

from tests.conftest import tiny_config, tiny_diffusion
from vilg.data.records import LANGUAGES
from vilg.evals.captions import Captions, Spread
from vilg.experiment import build_experiment
from vilg.metrics.captions import NAMES
from vilg.types import UserError


class Known:
    """Captions a picture with what `says` makes of its own first caption."""

    program = params = frozen = text_model = None
    codes = pictures = sample = batched = apply = apply_to_texts = len  # asked for by nobody here

    def __init__(self, n, says=str):
        self.experiment, self.says, self.asked = build_experiment(tiny_config()), says, []
        source = Spread(self.experiment.data.valid, n)
        self.captions = {source[i]["image"].tobytes(): source[i]["captions"] for i in range(n)}

    def caption(self, images, languages, controls, seed=0):
        assert controls.temperature == 0
        self.asked.append((len(images), set(languages)))
        own = [
            [c["text"] for c in self.captions[i.tobytes()] if c["language"] == g]
            for i, g in zip(images, languages, strict=True)
        ]
        return [types.SimpleNamespace(text=self.says(texts[0])) for texts in own]


def test_captions_are_scored_in_each_language_by_its_unit():
    good, bad = Known(12), Known(12, lambda text: "xyz")
    for subject, score in ((good, 1), (bad, 0)):
        result = Captions(n=12)(subject)
        assert set(result) == set(LANGUAGES) and subject.asked == [(12, {"zh"}), (12, {"en"})]
        for figures in result.values():
            assert [figures[m] for m in ("BLEU-1", "BLEU-4", "ROUGE-L")] == pytest.approx(
                [score] * 3, abs=1e-6
            )
            assert (
                set(figures) == {*NAMES, "n", "null"}
                and figures["n"] == 12
                and figures["SPICE"] is None
            )
            assert figures["CIDEr"] > 1 if score else figures["CIDEr"] == 0
        json.dumps(result)
    shorter = Known(12, lambda text: text[:-1])
    by_words, by_default = Captions(n=12, zh="word")(shorter), Captions(n=12)(shorter)
    assert (
        by_words["zh"]["BLEU-1"] != by_default["zh"]["BLEU-1"]
        and by_words["en"] == by_default["en"]
    )


def test_the_protocol_says_what_was_counted():
    protocol = Captions(zh="word").protocol()
    assert (
        protocol["scores"]["zh"]["unit"] == protocol["zh"] == "word"
        and protocol["scores"]["en"]["unit"] == "word"
    )
    json.dumps(protocol)


def test_records_are_spread_evenly():
    assert [Spread(list(range(10)), 4)[i] for i in range(4)] == [0, 2, 5, 7] and len(
        Spread([1, 2], 4)
    ) == 2
    assert Spread([1, 2], 4)[1] == 2


def test_it_goes_with_captioners_only_and_refuses_bad_fields():
    assert build_experiment(tiny_config(evals={"captions": {"n": 4}})).evals[
        "captions"
    ] == Captions(n=4)
    with pytest.raises(UserError, match="evals.captions captions images, which 'diffusion' cannot"):
        build_experiment(tiny_diffusion(evals={"captions": {}}))
    with pytest.raises(UserError, match="evals.captions.zh='wrod': must be one of 'char', 'word'"):
        build_experiment(tiny_config(evals={"captions": {"zh": "wrod"}}))
    with pytest.raises(UserError, match="evals.captions.n=1: must be at least 2"):
        Captions(n=1)


def test_a_language_that_no_two_records_have_is_left_out():
    subject = Known(4)
    source = Spread(subject.experiment.data.valid, 4)
    records = [
        r | {"captions": [c for c in r["captions"] if c["language"] == "en" or i == 0]}
        for i, r in enumerate(source)
    ]
    data = types.SimpleNamespace(valid=records, loader=subject.experiment.data.loader)
    subject.experiment = types.SimpleNamespace(
        data=data, codec=subject.experiment.codec, image_codec=subject.experiment.codec, model=None
    )
    assert set(Captions(n=4)(subject)) == {"en"}
    data.valid = records[1:2]
    with pytest.raises(UserError, match="no language has captions in two of 1 validation records"):
        Captions(n=4)(subject)
