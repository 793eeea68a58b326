"""Scores of captions against references: BLEU, METEOR, ROUGE-L, CIDEr and SPICE, computed by
pycocoevalcap, the code behind published numbers.

Scores are fractions as pycocoevalcap returns them (CIDEr from 0 to 10). CIDEr's document
frequencies come from the references of the whole set that is scored, as in pycocoevalcap.
segment.py cuts captions into tokens; vilg/data/caption_files.py reads files of captions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from vilg.metrics.java import Unavailable, meteor, spice
from vilg.metrics.segment import segmenter, without_punctuation
from vilg.types import UserError

BLEU = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4")
NAMES = (*BLEU, "METEOR", "ROUGE-L", "CIDEr", "CIDEr-D", "SPICE")
FORMULAS = {
    "BLEU-1..4": (
        "of the corpus: clipped n-gram counts summed over items, geometric mean of orders 1..k,"
        " brevity penalty against the reference closest in length (the shorter of two); Papineni et"
        " al. 2002. Of an item: the same formula on that item"
    ),
    "METEOR": (
        "METEOR 1.5 with its English settings and -norm (Denkowski and Lavie 2014), on the tokens;"
        " Chinese tokens can match exactly only"
    ),
    "ROUGE-L": (
        "mean over items of the F score (beta 1.2) of the largest LCS precision and the largest LCS"
        " recall over references; Lin 2004"
    ),
    "CIDEr": (
        "what coco-caption's class Cider computes and papers report as CIDEr: the formula of"
        " CIDEr-D; the same number as CIDEr-D"
    ),
    "CIDEr-D": (
        "n-grams 1..4, no stemming, clipped counts, Gaussian length penalty (sigma 6), times 10;"
        " document frequencies from the references of the whole set scored; Vedantam et al. 2015,"
        " section 7"
    ),
    "SPICE": (
        "SPICE 1.0, mean F score of scene-graph tuples; Anderson et al. 2016. English words only"
    ),
    "CIDErR": (
        "not computed: ERNIE-ViLG's table names it without a formula or a citation, so it is"
        " undefined"
    ),
}
# pycocoevalcap's constants, which make the quotient of no matches and no n-grams 0
SMALL, TINY = 1e-9, 1e-15
RESAMPLES = 1000  # of the bootstrap


@dataclass(frozen=True)
class Scores:
    """The scores of a set of captions, by the names of NAMES."""

    corpus: dict[str, float | None]  # of the whole set; None where it cannot be computed
    reasons: dict[str, str]  # why a score of the corpus is None
    items: dict[str, list[float]]  # of each item
    ci95: dict[str, list[float]]  # [low, high] of a score of the corpus
    notes: list[str]  # sentences about the set that a reader of the scores should know


def caption_scores(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    language: str,
    unit: str,
    java: bool = True,
) -> dict[str, float | None]:
    """Every score of NAMES for predictions[i] against references[i]; None where it cannot be
    computed on this machine. Errors: as `score_captions`.
    """
    return score_captions(predictions, references, language, unit, java=java).corpus


def score_captions(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    language: str,
    unit: str,
    drop_punctuation: bool = False,
    java: bool = True,
    resamples: int = 0,
    seed: int = 0,
) -> Scores:
    """The scores of a corpus and of its items; with `resamples`, also 95 % bootstrap intervals of
    the corpus's scores.

    Without `java` METEOR and SPICE are None. Errors: UserError for no items, an item without
    references, a reference without a token, an unknown language or unit."""
    if not predictions or len(predictions) != len(references):
        raise UserError(
            f"predictions={len(predictions)}: give one or more, as many as there are items of"
            f" references ({len(references)})"
        )
    tokens = tokenizer(language, unit, drop_punctuation)
    candidates = {i: [" ".join(tokens(text))] for i, text in enumerate(predictions)}
    truths = {i: [" ".join(tokens(text)) for text in texts] for i, texts in enumerate(references)}
    check_references(truths, references, language, unit)
    statistics = bleu_statistics(truths, candidates)
    corpus: dict[str, float | None] = dict(
        zip(BLEU, bleu(statistics.sum(0, keepdims=True))[0].tolist(), strict=True)
    )
    items: dict[str, list[float]] = dict(zip(BLEU, bleu(statistics).T.tolist(), strict=True))
    for name, scorer in (("ROUGE-L", rouge), ("CIDEr", cider)):
        items[name] = scorer(truths, candidates)
        corpus[name] = float(np.mean(items[name]))
    corpus["CIDEr-D"], items["CIDEr-D"] = corpus["CIDEr"], items["CIDEr"]
    reasons: dict[str, str] = {}
    for name, scorer in (("METEOR", meteor), ("SPICE", spice)):
        try:
            require_applicable(name, language, unit, java)
            corpus[name], items[name] = scorer(truths, candidates)
        except Unavailable as error:
            corpus[name], reasons[name] = None, str(error)
    means = {k: np.array(items[k]) for k in ("ROUGE-L", "CIDEr", "CIDEr-D")}
    ci95 = bootstrap(statistics, means, resamples, seed) if resamples else {}
    in_order = {name: corpus[name] for name in NAMES}
    return Scores(in_order, reasons, items, ci95, notes_about(candidates, unit))


def check_references(
    tokenized: Mapping[int, list[str]],
    references: Sequence[Sequence[str]],
    language: str,
    unit: str,
) -> None:
    """Errors: UserError for an item without references, or a reference without a token."""
    for i, texts in tokenized.items():
        if not texts:
            raise UserError(f"references[{i}]: is empty; give every item a caption in {language!r}")
        if "" in texts:
            raise UserError(
                f"references[{i}]={references[i][texts.index('')]!r}: has no {unit} to score; leave"
                " that caption out"
            )


def notes_about(predictions: Mapping[int, list[str]], unit: str) -> list[str]:
    """Sentences about a set of predictions that a reader of its scores should know."""
    notes = []
    if len(predictions) == 1:
        notes.append(
            "one item only: every n-gram of its references is in the whole set, so that CIDEr's"
            " weights and CIDEr are 0"
        )
    empty = sum(text == [""] for text in predictions.values())
    if empty:
        notes.append(
            f"{empty} of {len(predictions)} predictions have no {unit}; they count as wrong"
        )
    return notes


def tokenizer(
    language: str, unit: str, drop_punctuation: bool = False
) -> Callable[[str], list[str]]:
    """The function that cuts a text into tokens, from segment.py's table. Errors: UserError for an
    unknown language or unit.
    """
    cut, _ = segmenter(language, unit)
    return (lambda text: without_punctuation(cut(text))) if drop_punctuation else cut


def require_applicable(name: str, language: str, unit: str, java: bool) -> None:
    """Errors: Unavailable where the metric is not defined on such tokens, or where its Java program
    was not asked for.
    """
    if not java:
        raise Unavailable(f"{name} is a Java program, which was not asked for")
    if language == "en" and unit == "char":
        raise Unavailable(f"{name} compares English words, and the unit is char")
    if name == "SPICE" and language != "en":
        raise Unavailable("SPICE's parser reads English only")


def bleu_statistics(
    references: Mapping[int, list[str]], predictions: Mapping[int, list[str]]
) -> Float[np.ndarray, "n 10"]:
    """One row an item: matches of orders 1..4, n-grams of orders 1..4, tokens, and tokens of the
    reference closest in length.
    """
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer

    scorer = BleuScorer(n=len(BLEU))
    for i, texts in references.items():
        scorer += (predictions[i][0], texts)
    rows = []
    for item in scorer.ctest:
        closest = scorer._single_reflen(item["reflen"], "closest", item["testlen"])
        rows.append([*item["correct"], *item["guess"], item["testlen"], closest])
    return np.array(rows, np.float64)


def bleu(statistics: Float[np.ndarray, "n 10"]) -> Float[np.ndarray, "n 4"]:
    """BLEU-1..4 of each row of summed statistics.

    The guards against division by zero are pycocoevalcap's."""
    orders = len(BLEU)
    correct, guess, length, closest = np.split(statistics, [orders, 2 * orders, 2 * orders + 1], 1)
    precisions = np.cumprod((correct + TINY) / (guess + SMALL), 1) ** (1 / np.arange(1, orders + 1))
    ratio = (length + TINY) / (closest + SMALL)
    return precisions * np.exp(np.minimum(0.0, 1 - 1 / ratio))


def rouge(references: Mapping[int, list[str]], predictions: Mapping[int, list[str]]) -> list[float]:
    """ROUGE-L of each item."""
    from pycocoevalcap.rouge.rouge import Rouge

    return Rouge().compute_score(references, predictions)[1].tolist()


def cider(references: Mapping[int, list[str]], predictions: Mapping[int, list[str]]) -> list[float]:
    """CIDEr-D of each item, with the document frequencies of these references."""
    from pycocoevalcap.cider.cider import Cider

    return Cider().compute_score(references, predictions)[1].tolist()


def bootstrap(
    statistics: Float[np.ndarray, "n 10"],
    means: Mapping[str, Float[np.ndarray, " n"]],
    resamples: int,
    seed: int,
) -> dict[str, list[float]]:
    """The 2.5 and 97.5 percentiles over `resamples` draws of n items with replacement.

    CIDEr's document frequencies stay those of the whole set in every draw."""
    n, rng = len(statistics), np.random.default_rng(seed)
    names = (*BLEU, *means)
    columns = np.stack(list(means.values()), 1) / n
    drawn = np.empty((resamples, len(names)))
    step = max(1, 2_000_000 // n)  # counts in memory at once
    for i in range(0, resamples, step):
        counts = rng.multinomial(n, np.full(n, 1 / n), size=min(step, resamples - i)).astype(
            np.float64
        )
        drawn[i : i + step] = np.concatenate([bleu(counts @ statistics), counts @ columns], 1)
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    return {name: [float(a), float(b)] for name, a, b in zip(names, low, high, strict=True)}


def describe(language: str, unit: str, drop_punctuation: bool = False) -> dict[str, object]:
    """Everything that the scores depend on beside the captions, to be stored with them."""
    rule = segmenter(language, unit)[1]
    if drop_punctuation:
        rule += "; then punctuation at the ends of tokens dropped"
    return {
        "language": language,
        "unit": unit,
        "tokenizer": rule,
        "formulas": FORMULAS,
        "document_frequencies": "references of the whole set",
    }
