"""The caption gap: 0 for a model that ignores its captions, large where only the caption tells, and
doctor's words about both.
"""

import dataclasses

import numpy as np
import pytest

from tests.conftest import tiny_config, tiny_diffusion
from vilg.evals.caption_gap import CaptionGap, summary, verdict
from vilg.experiment import build_experiment
from vilg.types import UserError
from vilg.workdir.session import open_session


class Knows:
    """A program whose error at t is 1 with the own caption (the text of a picture is its code), and
    1 + t with another.
    """

    def __init__(self, program, minds: bool):
        self.experiment, self.minds, self.program = program.experiment, minds, program
        self.batch_shards = program.batch_shards

    def errors_at(self, params, text, codes, t):
        own = np.array(
            [hash(c.tobytes()) == self.owner[i.tobytes()] for i, c in zip(text, codes, strict=True)]
        )
        return np.where(own | (not self.minds), 1.0, 1.0 + float(t))


@pytest.fixture(scope="module")
def session(diffusion_run):
    return open_session(str(diffusion_run))


@pytest.mark.parametrize("minds", [True, False])
def test_the_gap_is_what_another_caption_costs(session, minds):
    fake = Knows(session.program, minds)
    subject = dataclasses.replace(session)
    evaluator = CaptionGap(levels=4, records=16)
    text, codes = evaluator._records(subject)
    fake.owner = {i.tobytes(): hash(c.tobytes()) for i, c in zip(text, codes, strict=True)}
    object.__setattr__(subject, "program", Proxy(session.program, fake.errors_at))
    figures = evaluator(subject)
    gaps = [figures[f"level_{k:02d}"]["gap"] for k in range(4)]
    np.testing.assert_allclose(
        gaps, [0.125, 0.375, 0.625, 0.875] if minds else [0.0] * 4, atol=1e-6
    )
    assert figures["largest"] == max(gaps)


class Proxy:
    def __init__(self, program, errors_at):
        self.program, self.errors_at = program, errors_at

    def call(self, method):
        return getattr(self, method)

    def __getattr__(self, name):
        return getattr(self.program, name)


def test_every_run_ends_with_it(session, diffusion_run):
    assert (diffusion_run / "caption_gap.json").exists()
    lines = (diffusion_run / "metrics.jsonl").read_text().splitlines()
    assert "caption_gap/largest" in lines[-1] and "caption_gap/largest" not in lines[0]


def test_doctor_says_where_training_misses_the_caption():
    generator = build_experiment(
        tiny_diffusion(
            generator__process=dict(
                name="gaussian",
                prediction="x0",
                schedule=dict(name="log_linear", sigma_min=0.01, sigma_max=100.0),
                times=dict(name="lognormal", mean=-2.0, std=0.5),
            )
        )
    ).model

    def figures(
        costs,
        # of a model whose own error grows with noise: the relative gap is largest at the lowest
        # noise at all
    ):
        rows = [
            {"t": (k + 0.5) / 10, "noise": 10.0**k, "own": 0.01 * 2**k, "other": 0.01 * 2**k + cost}
            for k, cost in enumerate(costs)
        ]
        return summary([{**row, "gap": row["other"] / row["own"] - 1} for row in rows], generator)

    missed = figures([0.02, 0, 0, 0, 0, 0, 0.1, 0.9, 1.0, 0.8])
    assert missed["largest_at_noise"] == 1.0
    assert (missed["matters_from_noise"], missed["matters_to_noise"]) == (1e7, 1e9) and missed[
        "drawn_where_it_matters"
    ] < 0.01
    assert "0% of the training draws fall where the caption matters" in verdict(missed)
    met = figures([0, 0, 0.9, 1.0, 0.9, 0, 0, 0, 0, 0])
    assert met["drawn_where_it_matters"] > 0.9 and verdict(met) == "ok"
    assert "captions change the error by 1.0% at most" in verdict({**met, "largest": 0.01})


def test_a_generator_without_noise_has_none(session):
    other, program = dataclasses.replace(session), Proxy(session.program, None)
    program.experiment = build_experiment(tiny_config())
    object.__setattr__(other, "program", program)
    with pytest.raises(UserError, match="evals.caption_gap: this generator has no noise levels"):
        CaptionGap()(other)
