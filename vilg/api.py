"""The Python front door: a finished run as an object.

    import vilg
    run = vilg.load("runs/quickstart/diffusion")
    run.sample("a red circle", guidance=3, seed=1)[0]        # a picture, shown in a notebook
    run.caption("photo.png")[0].text

The verbs of the command line use the same object. A run is opened when something first needs its
parameters, so `load` alone is quick.
"""

import dataclasses
import functools
import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float
from PIL import Image

from vilg.data.records import BadRecord, check_known_languages, detect_language, to_rgb, to_square
from vilg.data.styles import find_style
from vilg.evals.base import Evaluator
from vilg.evals.numbers import results_of
from vilg.generators.guidance import Controls
from vilg.training.log import read_metrics
from vilg.training.metric_table import MetricTable
from vilg.types import Captioner, Codec, Embedder, Likelihood, Ranker, Tokenizer, UserError
from vilg.workdir.files import Record, Workdir, versions
from vilg.workdir.painting import Painting, read_picture
from vilg.workdir.request import Request
from vilg.workdir.session import Captioned, Sampled, Session, Watch, open_session
from vilg.workdir.start import kind_of

Pictures = Sequence[np.ndarray] | np.ndarray | Image.Image | str | os.PathLike | Sequence[Any]


@dataclasses.dataclass(frozen=True)
class Picture:
    """One picture and what it was made from."""

    array: np.ndarray  # uint8 [H, W, 3]
    prompt: str
    language: str
    seed: int
    truncated: bool  # whether the prompt was cut to data.text.length
    score: float | None = None  # the cosine by which a ranker chose it
    candidates: tuple[tuple[int, float], ...] = ()  # (seed, cosine) of all that it chose among
    trace: tuple[Image.Image, ...] = ()  # sampling from its beginning to this picture

    @property
    def image(self) -> Image.Image:
        """The picture as a PIL image."""
        return Image.fromarray(self.array)

    def save(self, path: str | os.PathLike) -> None:
        """Writes the picture; the file's name says in which format."""
        self.image.save(path)

    def _repr_png_(self) -> bytes:
        """What a notebook shows: at least 256 pixels wide."""
        image, factor = self.image, max(1, 256 // self.array.shape[1])
        size = image.width * factor, image.height * factor
        out = io.BytesIO()
        image.resize(size, Image.Resampling.NEAREST).save(out, "PNG")
        return out.getvalue()


class Run:
    """A run in its workdir. Errors of every method: vilg.UserError, one sentence that names the
    argument, the value and the remedy.
    """

    def __init__(
        self, workdir: str | os.PathLike, ema: bool = True, swap_experts: bool = False
    ) -> None:
        self.directory = Workdir(workdir)
        self.path = self.directory.path
        self.record: Record = self.directory.read()
        self._ema, self._swap = ema, swap_experts

    def __repr__(self) -> str:
        return f"<vilg run {str(self.path)!r}: {kind_of(self.record.config)}>"

    @functools.cached_property
    def session(self) -> Session:
        """The newest checkpoint in memory, with its compiled programs."""
        return open_session(str(self.path), ema=self._ema, swap=self._swap)

    @property
    def config(self) -> Mapping[str, Any]:
        """The frozen config, as plain dicts and lists."""
        return self.record.config

    @property
    def step(self) -> int:
        """Updates that the parameters have had."""
        return self.session.step

    @property
    def metrics(self) -> MetricTable:
        """The log of training, a row a logged step; it grows while the run trains."""
        return MetricTable(read_metrics(self.directory.path / "metrics.jsonl"))

    def sample(
        self,
        prompts: str | Sequence[str],
        *,
        num: int = 1,
        seed: int = 0,
        language: str | Sequence[str] | None = None,
        negative: str | None = None,
        style: str = "",
        init: str = "",
        mask: str = "",
        strength: float | None = None,
        height: int | None = None,
        width: int | None = None,
        paste: bool = False,
        best_of: int | None = None,
        ranker: str = "",
        trace: int = 0,
        watch: Watch | None = None,
        **options: Any,
    ) -> list[Picture]:
        """`num` pictures of each prompt, prompt by prompt, from the seeds `seed`, `seed` + 1, ...

        `options` are the sampler's (guidance, steps, sampler, temperature, ...): those that are
        left out are the config's. The other arguments are those of `vilg sample`.
        """
        texts = [prompts] if isinstance(prompts, str) else list(prompts)
        painting = Painting(init, mask, strength, height, width, paste)
        request = Request(
            texts,
            _languages(language, texts),
            num,
            seed,
            negative,
            find_style(style) if style else None,
            painting,
            options,
            best_of,
            ranker,
            trace,
        )
        return [picture(sampled) for sampled in request.draw(self.session, watch)]

    def caption(
        self,
        images: Pictures,
        language: str | Sequence[str] = "en",
        *,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> list[Captioned]:
        """A caption of each picture, with `text`, `language` and `score` (its log-likelihood in
        nats). Pictures are PIL images, arrays uint8 [H, W, 3], or paths of files; of a picture that
        is not of the codec's size the largest square in its middle is taken and resized.
        """
        self.session.require(Captioner)
        arrays = self._fitted(images)
        languages = _languages(language, [""] * len(arrays))
        controls = Controls(temperature=temperature, top_k=top_k, top_p=top_p)
        return self.session.caption(arrays, languages, controls, seed)

    def score(
        self,
        images: Pictures,
        texts: str | Sequence[str],
        language: str | Sequence[str] | None = None,
    ) -> Float[np.ndarray, " n"]:
        """How well texts[i] goes with images[i]: the cosine of a ranker's features, nats of the
        picture's codes given the text where the generator gives likelihoods, else minus the loss.
        Nats and losses can be compared between texts of one picture only.
        """
        arrays, given = self._fitted(images), [texts] if isinstance(texts, str) else list(texts)
        if len(given) != len(arrays):
            raise UserError(
                f"texts: {len(given)} texts for {len(arrays)} pictures; give one text a picture"
            )
        languages = _languages(language, given)
        session = self.session
        if isinstance(session.experiment.model, Embedder):
            features = session.embed_images(arrays)
            return np.sum(features * session.embed_texts(given, languages), -1)
        likelihood = isinstance(session.experiment.model, Likelihood)
        if not likelihood:
            session.require(Ranker)
        method = "log_likelihood" if likelihood else "agreement"
        return session.apply_to_texts(method, given, languages, session.codes(arrays))

    def encode(self, images: Pictures) -> np.ndarray:
        """The codes of pictures: ids int32 [n, y, x], or latents float32 [n, y, x, c]."""
        return self.session.codes(self._fitted(images))

    def decode(self, codes: np.ndarray) -> list[Image.Image]:
        """Pictures of codes, as `encode` gives them, on a grid of any size."""
        session, own, given = self.session, self._codes, np.asarray(codes)
        kind = np.integer if np.issubdtype(own.dtype, np.integer) else np.floating
        fits = given.ndim == len(own.shape) and given.shape[3:] == own.shape[3:] and given.size
        if not fits or not np.issubdtype(given.dtype, kind):
            wanted = ", ".join(map(str, ("n", *own.shape[1:])))
            raise UserError(
                f"codes: has shape {given.shape} and type {given.dtype}; give what `encode` gives,"
                f" {own.dtype} [{wanted}]"
            )
        _check_ids(given, session.experiment.image_codec)
        return [Image.fromarray(image) for image in session.pictures(given.astype(own.dtype))]

    @functools.cached_property
    def _codes(self) -> jax.ShapeDtypeStruct:
        """The shape [n, y, x, ...] and dtype of what `encode` gives; the codec is traced for it."""
        program, side = self.session.program, self.session.experiment.image_codec.image_size
        pictures = jax.ShapeDtypeStruct((program.batch_shards, side, side, 3), np.uint8)
        return jax.eval_shape(program.encode, self.session.frozen, pictures)

    def evaluate(self, names: str | Sequence[str] = ()) -> dict[str, Any]:
        """{"metrics": {evaluator: numbers}, "protocol": {...}} of the config's evaluators, or of
        those named.
        """
        chosen = self.evaluators([names] if isinstance(names, str) else list(names))
        return {
            "metrics": results_of(chosen, self.session),
            "protocol": self.protocol(chosen),
        }

    def evaluators(self, names: Sequence[str] = ()) -> dict[str, Evaluator]:
        """The config's evaluators, or those named."""
        evals = self.session.experiment.evals
        for name in names:
            if name not in evals:
                known = ", ".join(evals) or "none"
                raise UserError(f"evals={name!r}: this run's config has {known}; choose among them")
        if not evals:
            raise UserError(
                "evals is empty: this run's config names no evaluator; train one that does"
            )
        return {name: evals[name] for name in names or evals}

    def protocol(self, evaluators: Mapping[str, Evaluator]) -> dict[str, Any]:
        """What decides the numbers of these evaluators."""
        ema = self._ema and bool(self.session.experiment.training.ema)
        return {name: evaluator.protocol() for name, evaluator in evaluators.items()} | {
            "workdir": str(self.path),
            "step": self.step,
            "parameters": "ema" if ema else "raw",
            "config_hash": self.session.experiment.hash,
            "versions": versions(),
        }

    def _fitted(self, images: Pictures) -> np.ndarray:
        """Pictures as uint8 [n, H, W, 3] of the codec's size."""
        side = self.session.experiment.image_codec.image_size
        single = isinstance(images, str | os.PathLike | Image.Image)
        single = single or (isinstance(images, np.ndarray) and images.ndim <= 3)
        listed: Sequence[Any] = [images] if single else list(images)  # type: ignore[list-item]
        if not listed:
            raise UserError("images: is empty; give at least one picture")
        return np.stack([to_square(_array(image), side) for image in listed])


def load(workdir: str | os.PathLike, ema: bool = True, swap_experts: bool = False) -> Run:
    """The run in a workdir. `ema=False` takes the last parameters instead of their moving average;
    with `swap_experts` a mixture's experts come to the devices one by one.
    """
    return Run(workdir, ema, swap_experts)


def picture(sampled: Sampled) -> Picture:
    """A session's sample as a Picture."""
    fields = {f.name: getattr(sampled, f.name) for f in dataclasses.fields(sampled)}
    trace = tuple(map(Image.fromarray, fields.pop("trace")))
    return Picture(array=fields.pop("image"), trace=trace, **fields)


def _languages(language: str | Sequence[str] | None, texts: Sequence[str]) -> list[str]:
    """A language for each text."""
    if language is None:
        return [detect_language(text) for text in texts]
    languages = [language] * len(texts) if isinstance(language, str) else list(language)
    check_known_languages(languages)
    if len(languages) != len(texts):
        raise UserError(
            f"language={languages!r}: is {len(languages)} languages for {len(texts)}; give one for"
            " all, or as many"
        )
    return languages


def _check_ids(codes: np.ndarray, codec: Codec) -> None:
    """Errors: UserError for ids that the codec does not have."""
    if not np.issubdtype(codes.dtype, np.integer) or not isinstance(codec, Tokenizer):
        return
    low, high = int(codes.min()), int(codes.max())
    if low < 0 or high >= codec.vocabulary:
        raise UserError(
            f"codes={low if low < 0 else high}: this codec's ids are from 0 to"
            f" {codec.vocabulary - 1}; give ids that `encode` gave"
        )


def _array(image: object) -> np.ndarray:
    """uint8 [H, W, 3] of a PIL image, an array or a file."""
    if isinstance(image, str | os.PathLike):
        return read_picture("images", os.fspath(image))
    if isinstance(image, Image.Image):
        try:
            image = to_rgb("images", image)
        except BadRecord as error:
            raise UserError(f"images: {error.reason}; give a picture of 8 bits a colour") from None
    array = np.asarray(image)
    if array.ndim != 3 or array.shape[-1] != 3 or array.dtype != np.uint8 or not array.size:
        raise UserError(
            f"images: has shape {array.shape} and type {array.dtype}; give uint8 [height, width, 3]"
        )
    return array
