"""Scores of captions against their definitions, and against pycocoevalcap's own scorers."""

import collections
import itertools
import math
import shutil
import stat

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu

from vilg.metrics.captions import (
    BLEU,
    FORMULAS,
    NAMES,
    bleu_statistics,
    bootstrap,
    caption_scores,
    score_captions,
)
from vilg.types import UserError

WORDS = {
    "zh": "一 个 红 色 圆 形 在 蓝 方 左 边 大".split(),
    "en": "a big red ring dog left of the blue box on with".split(),
}


def corpus(language, n=12, seed=0):
    """Predictions and references; most references are a few edits away from the prediction, so that
    n-grams of every order match."""
    rng = np.random.default_rng(seed)
    draw = lambda k: [str(w) for w in rng.choice(WORDS[language], k)]  # noqa: E731
    predictions, references = [], []
    for _ in range(n):
        words = draw(rng.integers(2, 9))
        near = [
            words[:j] + draw(2) + words[j + 1 :] for j in rng.integers(0, len(words), 2)
        ]  # longer, so that brevity costs
        near += [draw(rng.integers(2, 9)), words[:-1] + draw(2)]
        predictions.append(" ".join(words))
        references.append([" ".join(r) for r in near[: rng.integers(1, 5)]])
    return predictions, references


def grams(words, k):
    return collections.Counter(tuple(words[i : i + k]) for i in range(len(words) - k + 1))


def bleu_by_definition(candidates, references):
    """Papineni et al. 2002, section 2.3, with the length of the closest reference."""
    length = sum(map(len, candidates))
    closest = sum(
        min((len(r) for r in refs), key=lambda n, c=c: (abs(n - len(c)), n))
        for c, refs in zip(candidates, references, strict=True)
    )
    penalty = 1.0 if length >= closest else math.exp(1 - closest / length)
    precisions = []
    for k in range(1, 5):
        hits = total = 0
        for c, refs in zip(candidates, references, strict=True):
            for gram, count in grams(c, k).items():
                hits += min(count, max(grams(r, k)[gram] for r in refs))
                total += count
        precisions.append(hits / total)
    return [penalty * math.prod(precisions[:k]) ** (1 / k) for k in range(1, 5)]


def rouge_by_definition(candidate, refs):
    """Lin 2004: F of the longest common subsequence, beta 1.2. All subsequences are searched."""

    def longest(a, b):
        inside = {s for n in range(len(b) + 1) for s in itertools.combinations(b, n)}
        return max(
            n for n in range(len(a) + 1) for s in itertools.combinations(a, n) if s in inside
        )

    common = [longest(candidate, r) for r in refs]
    precision = max(n / len(candidate) for n in common)
    recall = max(n / len(r) for n, r in zip(common, refs, strict=True))
    return (
        (1 + 1.2**2) * precision * recall / (recall + 1.2**2 * precision)
        if precision and recall
        else 0.0
    )


def cider_by_definition(candidates, references):
    """CIDEr-D (Vedantam et al. 2015, section 7, eq. 4), with vectors over all n-grams."""
    items = []
    for c, refs in zip(candidates, references, strict=True):
        per_order = []
        for k in range(1, 5):
            vocabulary = sorted({g for words in (c, *refs) for g in grams(words, k)})
            frequency = {
                g: sum(any(g in grams(r, k) for r in other) for other in references)
                for g in vocabulary
            }
            weight = np.array(
                [math.log(len(references) / max(1, frequency[g])) for g in vocabulary]
            )

            def vector(words, k=k, v=vocabulary, w=weight):
                return np.array([grams(words, k)[g] for g in v]) * w

            similar = []
            for r in refs:
                h, t = vector(c), vector(r)
                norm = np.linalg.norm(h) * np.linalg.norm(t)
                penalty = math.exp(-((len(c) - len(r)) ** 2) / (2 * 6**2))
                similar.append(penalty * float(np.minimum(h, t) @ t) / norm if norm else 0.0)
            per_order.append(np.mean(similar))
        items.append(10 * float(np.mean(per_order)))
    return items


@pytest.mark.parametrize("language", WORDS)
@pytest.mark.parametrize("seed", [0, 1])
def test_scores_are_their_definitions(language, seed):
    predictions, references = corpus(language, seed=seed)
    scores = score_captions(predictions, references, language, "word", java=False)
    candidates, truths = (
        [p.split() for p in predictions],
        [[r.split() for r in refs] for refs in references],
    )
    wanted = bleu_by_definition(candidates, truths)
    assert min(wanted) > 0.05 and wanted[0] < 0.95
    np.testing.assert_allclose([scores.corpus[name] for name in BLEU], wanted, rtol=0, atol=1e-6)
    for name, items in {
        "ROUGE-L": [rouge_by_definition(c, r) for c, r in zip(candidates, truths, strict=True)],
        "CIDEr": cider_by_definition(candidates, truths),
    }.items():
        np.testing.assert_allclose(scores.items[name], items, rtol=0, atol=1e-6)
        assert (
            scores.corpus[name] == pytest.approx(np.mean(items), abs=1e-6) and np.std(items) > 0.05
        )
    assert scores.corpus["CIDEr-D"] == scores.corpus["CIDEr"]


def test_bleu_of_corpus_and_items_is_pycocoevalcaps_to_the_bit_of_its_guards():
    predictions, references = corpus("zh", 30)
    predictions[3], predictions[4] = "", "大"  # nothing, and too short for 2-grams
    scores = score_captions(predictions, references, "zh", "word", java=False)
    whole, items = Bleu(4).compute_score(
        dict(enumerate(references)), {i: [p] for i, p in enumerate(predictions)}, verbose=0
    )
    np.testing.assert_allclose([scores.corpus[name] for name in BLEU], whole, rtol=1e-12)
    np.testing.assert_allclose([scores.items[name] for name in BLEU], items, rtol=1e-9, atol=1e-300)
    assert scores.notes == ["1 of 30 predictions have no word; they count as wrong"]


def test_perfect_and_hopeless_predictions():
    references = [
        ["a big red ring on a box"],
        ["the blue dog left of a box", "the dog"],
        ["a dog with a red box"],
    ]
    perfect = caption_scores([r[0] for r in references], references, "en", "word", java=False)
    assert [perfect[name] for name in (*BLEU, "ROUGE-L")] == pytest.approx([1] * 5, abs=1e-8)
    single = [r[:1] for r in references]
    assert caption_scores([r[0] for r in single], single, "en", "word", java=False)[
        "CIDEr"
    ] == pytest.approx(10)
    wrong = caption_scores(["x y z w v"] * 3, references, "en", "word", java=False)
    assert [wrong[name] for name in (*BLEU, "ROUGE-L", "CIDEr")] == pytest.approx([0] * 6, abs=1e-6)
    assert list(wrong) == list(NAMES) and wrong["METEOR"] is None


def test_every_score_has_its_formula_in_words():
    named = {name.replace("BLEU-1..4", "BLEU") for name in FORMULAS} - {"CIDErR"}
    assert named == {"BLEU" if name in BLEU else name for name in NAMES}


def test_characters_are_hand_segmented_words():
    predictions, references = corpus("zh", 8)
    glued = (
        ["".join(p.split()) for p in predictions],
        [["".join(r.split()) for r in refs] for refs in references],
    )
    assert caption_scores(*glued, "zh", "char", java=False) == caption_scores(
        predictions, references, "zh", "word", java=False
    )


def test_punctuation_and_case_count_by_the_rules():
    def score(a, b, language, **options):
        return score_captions(
            [a, "x"],
            [[b], ["y"]],
            language,
            "char" if language == "zh" else "word",
            java=False,
            **options,
        ).items["BLEU-1"][0]

    assert score("A dog.", "a dog", "en") == pytest.approx(1)
    assert score("红狗。", "红狗", "zh") == pytest.approx(2 / 3)
    assert score("红狗。", "红狗", "zh", drop_punctuation=True) == pytest.approx(1)


def test_one_item_has_no_document_frequencies():
    scores = score_captions(["a dog"], [["a dog"]], "en", "word", java=False)
    assert scores.corpus["CIDEr"] == 0 and "one item only" in scores.notes[0]


def test_the_bootstrap_is_that_of_resampled_corpora():
    predictions, references = corpus("en", 25)
    texts = dict(enumerate(references)), {i: [p] for i, p in enumerate(predictions)}
    statistics, mean = bleu_statistics(*texts), np.arange(25.0)
    low, high = bootstrap(statistics, {"mean": mean}, 4000, 0)["mean"]
    half = 1.96 * np.std(mean) / 5
    assert low == pytest.approx(12 - half, abs=0.2) and high == pytest.approx(12 + half, abs=0.2)
    rng = np.random.default_rng(1)
    drawn = []
    for _ in range(400):
        rows = rng.integers(0, 25, 25)
        gts, res = (
            {i: references[r] for i, r in enumerate(rows)},
            {i: [predictions[r]] for i, r in enumerate(rows)},
        )
        drawn.append(Bleu(4).compute_score(gts, res, verbose=0)[0][1])
    interval = bootstrap(statistics, {"mean": mean}, 4000, 0)["BLEU-2"]
    np.testing.assert_allclose(interval, np.percentile(drawn, [2.5, 97.5]), atol=0.02)
    scores = score_captions(predictions, references, "en", "word", java=False, resamples=200)
    assert len(scores.ci95) == 7
    for name, (low, high) in scores.ci95.items():
        score = scores.corpus[name]
        assert score is not None and low < score < high


def test_without_java_there_is_a_reason(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    scores = score_captions(["a dog", "b"], [["a dog"], ["b"]], "en", "word")
    assert scores.corpus["METEOR"] is scores.corpus["SPICE"] is None
    assert (
        "no `java` on PATH" in scores.reasons["METEOR"]
        and "no `java` on PATH" in scores.reasons["SPICE"]
    )
    assert (
        score_captions(["狗", "b"], [["狗"], ["b"]], "zh", "char").reasons["SPICE"]
        == "SPICE's parser reads English only"
    )
    assert (
        "the unit is char"
        in score_captions(["a", "b"], [["a"], ["b"]], "en", "char").reasons["METEOR"]
    )


@pytest.mark.parametrize("answer", ["exit 1", "while read line; do echo no number; done"])
def test_a_java_that_fails_is_a_reason_and_neither_an_error_nor_a_wait(
    monkeypatch, tmp_path, answer
):
    java = tmp_path / "java"
    java.write_text(f"#!/bin/sh\n{answer}\n")
    java.chmod(java.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path))
    scores = score_captions(["一 狗", "b"], [["一 狗"], ["b"]], "zh", "word")
    assert (
        scores.corpus["METEOR"] is None
        and "METEOR's Java program failed" in scores.reasons["METEOR"]
    )
    assert scores.corpus["BLEU-1"] == pytest.approx(1)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("java") is None, reason="METEOR is a Java program")
def test_meteor_matches_words_stems_and_han_characters():
    predictions = ["a dog runs", *["a dog runs on the grass"] * 2, *["大 红 圆"] * 2]
    references = [
        "a dog runs",
        "the dogs running on grass",
        "the cats sleeping on grass",
        "大 红 方",
        "小 蓝 方",
    ]
    exact, stems, none, han, no_han = score_captions(
        predictions, [[r] for r in references], "zh", "word"
    ).items["METEOR"]
    assert exact == pytest.approx(1) and stems > none + 0.1 and 0.2 < han < 1 and no_han == 0


def test_spice_passes_on_what_the_program_says(monkeypatch, tmp_path):
    """The models of SPICE's parser are not installed, so another program answers in its place."""
    from pycocoevalcap.spice import spice

    from vilg.metrics import java

    class Fake:
        def compute_score(self, references, predictions):
            scores = [float(predictions[i][0] in references[i]) for i in sorted(references)]
            return np.mean(scores), [{"All": {"f": s}} for s in scores]

    monkeypatch.setattr(java.shutil, "which", lambda name: "/bin/true")
    monkeypatch.setattr(java, "SPICE_MODELS", ())
    monkeypatch.setattr(spice, "Spice", Fake)
    monkeypatch.setattr("vilg.metrics.captions.meteor", lambda *texts: (0.0, [0.0, 0.0]))
    scores = score_captions(["a dog.", "b"], [["A dog"], ["c"]], "en", "word")
    assert scores.corpus["SPICE"] == 0.5 and scores.items["SPICE"] == [1, 0] and not scores.reasons
    monkeypatch.setattr(java, "SPICE_MODELS", ("absent.jar",))
    assert (
        "needs absent.jar in"
        in score_captions(["a", "b"], [["a"], ["c"]], "en", "word").reasons["SPICE"]
    )


@pytest.mark.parametrize(
    "predictions, references, said",
    [
        ([], [], "predictions=0: give one or more"),
        (["a"], [["a"], ["b"]], r"predictions=1: .* \(2\)"),
        (["a", "b"], [["a"], []], r"references\[1\]: is empty"),
        (["a", "b"], [["a"], ["b", "..."]], r"references\[1\]='...': has no word"),
    ],
)
def test_what_cannot_be_scored_is_refused(predictions, references, said):
    with pytest.raises(UserError, match=said):
        caption_scores(predictions, references, "en", "word", java=False)
