"""Twins on a subject whose answers are known."""

import functools
import types

import numpy as np
import pytest

from tests.conftest import tiny_config, tiny_diffusion
from vilg.evals.twins import Twins, distances
from vilg.experiment import build_experiment
from vilg.types import UserError


@functools.cache
def looked_at():
    """(caption -> numbers of the pictures that it describes, picture -> number) of the first
    validation records.
    """
    source = build_experiment(tiny_config()).data.valid
    owners, images = {}, {}
    for i in range(640):
        record = source[i]
        number = images.setdefault(record["image"].tobytes(), i)  # some scenes look alike
        for caption in record["captions"]:
            owners.setdefault(caption["text"], set()).add(number)
    return owners, images


class Known:
    """Finds a caption likely for the picture that it came with (or never), and paints a colour that
    the meaning decides (or noise).
    """

    program = params = frozen = text_model = None
    pictures = caption = batched = apply = len  # asked for by nobody here

    def __init__(self, understands: bool, config=tiny_config):
        self.experiment = build_experiment(config())
        self.understands = understands
        self.rng = np.random.default_rng(0)
        self.owners, self.images = looked_at()

    def codes(self, images):
        return (
            np.array([self.images[i.tobytes()] for i in images])[:, None, None]
            .repeat(2, 1)
            .repeat(3, 2)
        )

    def apply_to_texts(self, method, texts, languages, codes):
        scale = {"log_likelihood": 1, "agreement": 6}[method]
        own = np.array([i in self.owners[t] for i, t in zip(codes[:, 0, 0], texts, strict=True)])
        return np.where(own == self.understands, -6.0, -60.0) / scale

    def sample(self, prompts, controls, seed, languages):
        colours = [
            min(self.owners[p]) % 256 if self.understands else self.rng.integers(256)
            for p in prompts
        ]
        return [types.SimpleNamespace(image=np.full((32, 32, 3), c, np.uint8)) for c in colours]


def test_it_tells_a_model_that_understands_from_one_that_does_not():
    good, bad = (Twins(n=16, choices=4)(Known(understands)) for understands in (True, False))
    for language in ("zh", "en"):
        assert good[language]["matched"] == 1 and bad[language]["matched"] == 0
        assert (
            good[language]["nats_a_code"] == 1 and good[language]["nats_a_code_other_caption"] == 10
        )
        assert bad[language]["nats_a_code"] == 10
    assert good["twins"] == 0 < good["strangers"]
    assert bad["twins"] > 0.1 and good["records"] == 16


def test_a_generator_without_likelihoods_is_asked_for_agreement():
    good, bad = (
        Twins(n=16, choices=4)(Known(understands, tiny_diffusion)) for understands in (True, False)
    )
    for language in ("zh", "en"):
        assert good[language]["matched"] == 1 and bad[language]["matched"] == 0
        assert good[language]["loss_own"] == 1 and good[language]["loss_other_caption"] == 10
        assert "nats_a_code" not in good[language]


def test_every_caption_has_its_score():
    for understands in (True, False):
        twins = Twins(n=16, choices=4)
        numbers, scored = twins.measured(Known(understands))
        for language in ("zh", "en"):
            for cell, name in (
                ("own caption the best", "matched"),
                ("sample nearer to its picture", "nearer_to_truth"),
            ):
                rows = [s for s in scored if (s.cell, s.language) == (cell, language)]
                assert len({s.prompt for s in rows}) == len(rows) == 16
                assert sum(s.score for s in rows) / 16 == numbers[language][name]
                assert all((s.image is None) == (name == "matched") for s in rows)
    assert twins.fewer(4).n == 8 and twins.fewer(64).n == 16


def test_distance_is_the_root_mean_square_in_units_of_white():
    black, white = np.zeros((2, 4, 4, 3), np.uint8), np.full((2, 4, 4, 3), 255, np.uint8)
    assert (distances(black, white) == 1).all() and (distances(white, white) == 0).all()
    assert distances(black[:1], np.full((1, 4, 4, 3), 51, np.uint8)) == pytest.approx(0.2)


def test_it_refuses_what_it_cannot_measure():
    with pytest.raises(UserError, match="evals.twins.n=8"):
        Twins(n=8, choices=16)
    with pytest.raises(UserError, match="evals.twins.choices=1"):
        Twins(choices=1)
