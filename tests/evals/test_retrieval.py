"""Recall against counting by hand, and hard negatives on subjects whose answers are known."""

import numpy as np
import pytest

from tests.conftest import tiny_config, tiny_ranker
from vilg.data.scenes.captions import parse
from vilg.data.scenes.render import render
from vilg.evals.retrieval import Retrieval, recalls
from vilg.experiment import build_experiment
from vilg.types import UserError


def test_recall_counts_those_before_the_partner_and_ties_against_it():
    similarity = np.array([[3.0, 1, 2], [9, 5, 8], [1, 1, 1]], np.float32)
    assert recalls(similarity, (1, 2, 3)) == pytest.approx(
        {"recall_1": 1 / 3, "recall_2": 1 / 3, "recall_3": 1.0}
    )


class Reader:
    """Features of what captions say, as bags of words or as they are; a picture's are those of the
    scene that it was drawn from.
    """

    def __init__(self, whole: bool):
        self.experiment = build_experiment(tiny_ranker())
        self.whole, self.drawn, self.places = whole, {}, {}
        source = self.experiment.data.valid
        for i in range(600):
            scene = source.scene(i)
            self.drawn.setdefault(
                render(scene, 32).tobytes(),
                (tuple(o.attributes for o in scene.objects), scene.relation),
            )

    program = params = frozen = text_model = None
    codes = pictures = caption = batched = sample = apply = apply_to_texts = best = ranking = (
        len  # asked for by nobody here
    )

    def features(self, meanings):
        out = np.zeros((len(meanings), 4096), np.float32)
        for row, (objects, relation) in zip(out, meanings, strict=True):
            words = (
                [(objects, relation)]
                if self.whole
                else [*(w for o in objects for w in o), relation]
            )
            for word in words:
                row[self.places.setdefault(word, len(self.places))] = 1
        return out / np.linalg.norm(out, axis=1, keepdims=True)

    def embed_images(self, images):
        return self.features([self.drawn[i.tobytes()] for i in images])

    def embed_texts(self, texts, languages):
        said = [parse(t) for t in texts]
        assert [s.language for s in said] == list(languages)
        return self.features([(s.objects, s.relation) for s in said])


def test_it_tells_a_bag_of_words_from_a_reader():
    whole, bag = (Retrieval(n=16, changes=24)(Reader(w)) for w in (True, False))
    assert (
        whole["zh"]["image_to_text"]["recall_1"] > 0.9
        and whole["en"]["text_to_image"]["recall_1"] > 0.9
    )
    assert {
        k: v["accuracy"] for k, v in whole["changed"].items() if k != "chance"
    } == dict.fromkeys(("colour", "shape", "size", "relation", "binding"), 1.0)
    assert bag["changed"]["binding"]["accuracy"] == 0 and bag["changed"]["colour"]["accuracy"] > 0.9
    assert whole["chance"]["recall_1"] == 1 / 16 and whole["changed"]["binding"]["n"] == 24


def test_it_refuses_what_it_cannot_measure():
    with pytest.raises(UserError, match="evals.retrieval.n=10: must be above 10"):
        Retrieval(n=10)
    with pytest.raises(
        UserError, match="evals.retrieval asks for features, which 'autoregressive' cannot"
    ):
        build_experiment(tiny_config(evals={"retrieval": {"n": 16}}))
