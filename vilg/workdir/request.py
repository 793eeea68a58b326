"""A request for pictures: prompts with every option of sampling, its checks and its execution.

Separate from the session, which samples rows of ids. The command line and the Python interface
(vilg/api.py) both make a Request.
"""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from vilg.config import require
from vilg.data.records import check_known_languages, detect_language
from vilg.data.styles import Style, styled
from vilg.experiment import Experiment
from vilg.types import Generator, Stepwise, UserError
from vilg.workdir.painting import Painting, prepare
from vilg.workdir.reranking import best_of, check_request
from vilg.workdir.session import Sampled, Session, Watch


@dataclasses.dataclass(frozen=True)
class Request:
    """A request for `number` pictures of each prompt, from the seeds `seed`, `seed` + 1, ...

    `options` are the sampler's options by name (generators/options.py); an option that is left out
    has the value of the config's first evaluator that samples. With `best`, a number, so many
    pictures are sampled for each picture that is kept, and the ranker in the workdir `ranker`
    chooses.
    """

    prompts: Sequence[str]
    languages: Sequence[str]
    number: int = 1
    seed: int = 0
    negative: str | None = None
    style: Style | None = None
    painting: Painting = Painting()
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    best: int | None = None
    ranker: str = ""
    trace: int = 0  # frames of each picture's sampling (workdir/trace.py)

    def __post_init__(self) -> None:
        if self.number < 1:
            raise UserError(f"num={self.number}: give at least 1 picture a prompt")
        check_request(self.best, self.ranker)
        require(self.trace >= 0, "trace", self.trace, "must be at least 2, or 0 for none")
        needed = self.number * (self.best or 1)
        if not 0 <= self.seed <= 2**32 - needed:
            product = f"num{' x best_of' if self.best else ''}"
            raise UserError(f"seed={self.seed}: must be from 0 to 2**32 - {product}")
        if not self.prompts or not all(p.strip() for p in self.prompts):
            raise UserError("prompt is empty: give --prompt=TEXT (repeatable) or --prompts=FILE")
        check_known_languages(self.languages)
        for name, text in (*(("prompt", p) for p in self.prompts), ("negative", self.negative)):
            _check_utf8(name, text or "")
        if self.negative is not None and not self.negative.strip():
            raise UserError(f"negative={self.negative!r}: is empty; give text, or leave it out")
        self.painting.check_files()

    @property
    def texts(self) -> list[str]:
        """The prompts with the style's words."""
        if self.style is None:
            return list(self.prompts)
        style = self.style
        pairs = zip(self.prompts, self.languages, strict=True)
        return [styled(prompt, language, style) for prompt, language in pairs]

    def stepwise_options(self) -> dict[str, object]:
        """The options of this request that only a Stepwise generator has."""
        given = self.painting.asked
        return given | ({"negative": self.negative} if self.negative else {})

    def controls(self, session: Session) -> Any:
        """The sampling options of the session's generator.

        Errors: UserError for an option that the generator lacks, or a wrong value.
        """
        generator = session.experiment.model
        special = self.stepwise_options() | ({"swap_experts": True} if session.swap else {})
        if special and not isinstance(generator, Stepwise):
            name, value = next(iter(special.items()))
            raise UserError(
                f"{name}={value!r}: this run's generator does not sample step by step; give the"
                " workdir of one that does (diffusion)"
            )
        own = dataclasses.asdict(session.experiment.controls)
        self.painting.check(self.options.get("last", own.get("last", 0.0)))
        controls = controls_of(session.experiment, {**self.options, **self.painting.first})
        if self.negative is not None and controls.guidance == 1:
            raise UserError(
                f"negative={self.negative!r}: guidance=1 pushes away from nothing; give --guidance"
                " above 1"
            )
        return controls

    def draw(self, session: Session, watch: Watch | None = None) -> list[Sampled]:
        """The pictures, prompt by prompt; their `prompt` is the request's, without the style's
        words. `watch` is called after each evaluation of a generator that samples step by step.
        """
        session.require(Generator)
        controls = self.controls(session)
        if self.best is not None:
            session.ranking(self.ranker, set(self.languages))
        canvas = prepare(self.painting, session)
        inputs = canvas.rows(len(self.prompts)) | self._negative_ids(session)
        drawn = session.sample(
            self.texts,
            controls,
            self.seed,
            self.languages,
            number=self.number * (self.best or 1),
            inputs=inputs,
            grid=canvas.grid,
            watch=watch,
            trace=self.trace,
        )
        drawn = [
            dataclasses.replace(
                d, image=canvas.finished(d.image), trace=tuple(map(canvas.finished, d.trace))
            )
            for d in drawn
        ]
        if self.best is not None:
            drawn = best_of(drawn, self.best, session.ranking(self.ranker))
        prompts = [p for p in self.prompts for _ in range(self.number)]
        return [dataclasses.replace(d, prompt=p) for d, p in zip(drawn, prompts, strict=True)]

    def _negative_ids(self, session: Session) -> dict[str, np.ndarray]:
        """The ids of the negative prompt for each prompt."""
        if self.negative is None:
            return {}
        ids, cut = session.text_ids(self.negative, detect_language(self.negative))
        if cut:
            print(
                "vilg sample: cut the negative prompt, longer than"
                f" data.text.length={session.experiment.data.text.length}",
                file=sys.stderr,
            )
        return {"negative": np.repeat(ids[None], len(self.prompts), 0)}


def controls_of(experiment: Experiment, options: Mapping[str, object]) -> Any:
    """The generator's sampling options: the given ones over the config's.

    Errors: UserError for an option that this generator does not have, or a wrong value.
    """
    generator = cast(Generator, experiment.model)
    return generator.controls({**dataclasses.asdict(experiment.controls), **options})


def _check_utf8(name: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UserError(f"{name}={text!r}: is not UTF-8; give text in that encoding") from None
