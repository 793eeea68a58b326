"""Session: a run in memory, which encodes, decodes, samples, captions and embeds. Most verbs and
all evaluators use a session.

Rows are computed in batches of one size, the last batch padded, so that each program is compiled
once. The random key of a sample is made from (seed, prompt), and the key of a caption from (seed,
codes of its picture), so neither depends on the other rows of its batch or on their number.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from vilg import stage
from vilg.data.records import detect_language, to_square
from vilg.experiment import Experiment, build_experiment
from vilg.parallel.layout import Layout
from vilg.parallel.layouts import parse_layout
from vilg.program import Program
from vilg.stepwise_program import StepwiseProgram
from vilg.types import (
    START,
    Captioner,
    Embedder,
    Generator,
    Params,
    Ranker,
    Sequential,
    Stepwise,
    UserError,
)
from vilg.workdir.files import Workdir
from vilg.workdir.keys import sample_keys
from vilg.workdir.reranking import best_of, check_languages
from vilg.workdir.restore import codec_params, restore
from vilg.workdir.trace import hide, moments

# The words of the error for a model that lacks a capability: the lack, and the run to give instead.
NEEDS: dict[type, tuple[str, str]] = {
    Generator: ("draws no pictures", "the workdir of a generator"),
    Captioner: (
        "cannot caption",
        "the workdir of a generator that can, such as an autoregressive one",
    ),
    Embedder: (
        "has no features of pictures and texts",
        "the workdir of a ranker (experiments/ranker.py)",
    ),
    Ranker: (
        "cannot say how well a text goes with a picture",
        "the workdir of a generator or of a ranker",
    ),
}
# Called after each evaluation of the network in sampling, with the number of evaluations that are
# done, their number in all, and the rows of the batch.
Watch = Callable[[int, int, int], None]


@dataclasses.dataclass(frozen=True)
class Sampled:
    """One sampled picture, uint8 [H, W, 3], with its prompt and seed."""

    prompt: str
    language: str
    seed: int
    truncated: bool
    image: np.ndarray
    score: float | None = None  # its cosine with the prompt, where a ranker chose it
    candidates: tuple[tuple[int, float], ...] = ()  # (seed, cosine) of all candidates
    trace: tuple[np.ndarray, ...] = ()  # frames [H, W, 3] of sampling (workdir/trace.py)


@dataclasses.dataclass(frozen=True)
class Captioned:
    """One caption and its log-likelihood in nats under the model."""

    text: str
    language: str
    score: float


@dataclasses.dataclass(frozen=True, eq=False)
class Session:
    """Parameters with the program that runs them. `frozen` holds the codec's parameters, which in
    the run of a codec are `params` itself.
    """

    program: Program
    params: Params
    frozen: Params
    text_model: Any  # a TextModel; None in a codec's run
    step: int
    batch: int = 64
    # whether the parameters of a Stepwise generator stay on the host, and are put on the devices
    # one expert at a time
    swap: bool = False
    _experts: dict[int, Params] = dataclasses.field(default_factory=dict, init=False)
    _rankers: dict[str, "Session"] = dataclasses.field(default_factory=dict, init=False)

    @property
    def experiment(self) -> Experiment:
        """The run's experiment."""
        return self.program.experiment

    def codes(self, images: np.ndarray) -> np.ndarray:
        """The codes [n, y, x] of pictures uint8 [n, H, W, 3]."""
        return self.batched(lambda x: self.program.encode(self.frozen, x), images)

    def pictures(self, codes: np.ndarray) -> np.ndarray:
        """The pictures uint8 [n, H, W, 3] of codes [n, y, x]."""
        return self.batched(lambda x: self.program.decode(self.frozen, x), codes)

    def sample(
        self,
        prompts: Sequence[str],
        controls: Any,
        seed: int = 0,
        languages: Sequence[str] | None = None,
        number: int = 1,
        inputs: Mapping[str, np.ndarray] | None = None,
        grid: tuple[int, int] | None = None,
        watch: Watch | None = None,
        trace: int = 0,
    ) -> list[Sampled]:
        """`number` pictures of each prompt, prompt by prompt, from the seeds `seed`, `seed` + 1,
        ... The language of a prompt is detected where it is not given. A Stepwise generator also
        takes `inputs` beside the text, one row a prompt, and a `grid` of codes other than the
        codec's, and calls `watch` after each evaluation. With `trace` each picture has so many
        frames of its sampling.
        """
        self.require(Generator)
        stage.enter(f"sampling {len(prompts) * number} pictures")
        languages = languages or [detect_language(p) for p in prompts]
        rows = [(p, g, k) for p, g in zip(prompts, languages, strict=True) for k in range(number)]
        encoded = [self.text_ids(p, g) for p, g, _ in rows]
        keys = sample_keys([seed + k for _, _, k in rows], [p.encode() for p, _, _ in rows])
        given = {
            "text": np.stack([ids for ids, _ in encoded]),
            **{k: np.repeat(v, number, 0) for k, v in (inputs or {}).items()},
        }
        if isinstance(self.experiment.model, Stepwise):
            codes, estimates = self._drawn_stepwise(given, keys, controls, grid, watch, trace)
            images = self.pictures(codes)
            frames = [hide(self.pictures(codes), known) for codes, known in estimates]
        else:
            known = self._known(trace)
            images = self.pictures(self._drawn(given["text"], keys, controls))
            frames = [hide(images, np.stack([k] * len(images))) for k in known]
        traces = zip(*frames, images, strict=True) if trace else [()] * len(rows)
        return [
            Sampled(p, g, seed + k, cut, i, trace=t)
            for (p, g, k), (_, cut), i, t in zip(rows, encoded, images, traces, strict=True)
        ]

    def text_ids(self, text: str, language: str) -> tuple[np.ndarray, bool]:
        """The (ids [m], whether the text was cut to data.text.length)."""
        return self.text_model.encode(text, language, self.experiment.data.text.length)

    def _drawn(self, text: np.ndarray, keys: np.ndarray, controls: object) -> np.ndarray:
        """Codes [n, ...] of text ids [n, m], each sampled by one program."""
        call = self.program.call("sample", controls)
        return self.batched(
            lambda t, k: call(self.params, t, jax.random.wrap_key_data(k)), text, keys
        )

    def _known(self, trace: int) -> list[np.ndarray]:
        """Which codes [y, x] are sampled at each moment of a trace before the last."""
        if not trace:
            return []
        model = self.experiment.model
        if not isinstance(model, Sequential):
            raise UserError(f"trace={trace}: this run's generator has no order of codes; give 0")
        order = model.code_order()
        return [order < n for n in moments(trace, order.size)[:-1]]

    def _drawn_stepwise(
        self,
        inputs: Mapping[str, np.ndarray],
        keys: np.ndarray,
        controls: object,
        grid: tuple[int, int] | None,
        watch: Watch | None,
        trace: int,
    ) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
        """Codes [n, ...] of the inputs, and (codes, known positions) at each moment of the trace
        before the last."""
        names, generator = list(inputs), cast(Stepwise, self.experiment.model)
        schedule = generator.sampling_schedule(controls)
        shared, steps = generator.shared_params(self.params), len(schedule.times)
        total = steps * -(-len(keys) // self._size(len(keys)))
        rows = [
            {k: jnp.asarray(v[j], jnp.float32) for k, v in schedule.rows.items()}
            for j in range(steps)
        ]
        looks = moments(trace, steps)[:-1] if trace else []
        evaluated = 0

        def draw(*arrays: np.ndarray) -> Any:
            nonlocal evaluated
            wrapped = jax.random.wrap_key_data(jnp.asarray(arrays[-1]))
            given = dict(zip(names, arrays, strict=False))
            state = self.stepwise.begin(controls, grid)(shared, given, wrapped)
            estimates = []
            for expert, first, last in schedule.runs:
                weights = self._expert(expert)
                for j in range(first, last):
                    state = self.stepwise.advance(weights, state, rows[j], jnp.int32(j), wrapped)
                    evaluated += 1
                    if j + 1 in looks:
                        estimates.append(self.stepwise.estimate(state))
                    if watch is not None:
                        jax.block_until_ready(state)
                        watch(evaluated, total, len(arrays[-1]))
            return self.stepwise.finish(state), estimates

        return self.batched(draw, *inputs.values(), keys)

    @functools.cached_property
    def stepwise(self) -> StepwiseProgram:
        """The compiled steps of a Stepwise generator."""
        return StepwiseProgram(self.program)

    def _expert(self, index: int) -> Params:
        """The parameters of one expert: a slice of the parameters on the devices, or a copy from
        the host. The parameters of the expert that was used last stay on the devices.
        """
        if index not in self._experts:
            self._experts.clear()
            self._experts[index] = self._load_expert(index)
        return self._experts[index]

    def _load_expert(self, index: int) -> Params:
        if not self.swap:
            return self.stepwise.expert(self.params, jnp.int32(index))
        weights = cast(Stepwise, self.experiment.model).expert_params(self.params, index)
        return jax.device_put(weights, self.stepwise.expert_sharding)

    def apply(
        self, method: str, *arrays: np.ndarray, static: tuple = (), of_pictures: bool = False
    ) -> Any:
        """Calls a method of the model, `method(params, *arrays, *static)`, on arrays [n, ...] and
        returns its arrays [n, ...]. With `of_pictures` the first array holds uint8 pictures, which
        are encoded in the same program.
        """
        call = self.program.call(method, *static, of_pictures=of_pictures)
        given = (self.params, self.frozen) if of_pictures else (self.params,)
        return self.batched(lambda *parts: call(*given, *parts), *arrays)

    def apply_to_texts(
        self, method: str, texts: Sequence[str], languages: Sequence[str], *arrays: np.ndarray
    ) -> np.ndarray:
        """The result of `apply` for a method whose first array is the ids [n, m] of texts."""
        return self.apply(method, self.ids(texts, languages), *arrays)

    def ids(self, texts: Sequence[str], languages: Sequence[str]) -> np.ndarray:
        """The ids [n, m] of texts. A text longer than data.text.length is cut; `text_ids` tells
        whether a text is cut.
        """
        return np.stack([self.text_ids(t, g)[0] for t, g in zip(texts, languages, strict=True)])

    def embed_images(self, images: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
        """Features [n, d], float32 of unit length, of uint8 pictures [n, H, W, 3], or of a list of
        pictures whose sizes differ. Of a picture that is not of the codec's size the largest square
        in its middle is taken and resized (data/records.py:to_square).
        """
        self.require(Embedder)
        side = self.experiment.image_codec.image_size
        fitted = np.stack([to_square(image, side) for image in images])
        return self.apply("embed_images", fitted, of_pictures=True)

    def embed_texts(self, texts: Sequence[str], languages: Sequence[str]) -> np.ndarray:
        """Features [n, d], float32 of unit length, of texts; their dot product with a picture's is
        the cosine.
        """
        self.require(Embedder)
        return self.apply_to_texts("embed_texts", texts, languages)

    def best(self, samples: Sequence[Sampled], number: int, ranker: str) -> list[Sampled]:
        """The best picture of every group of `number` successive pictures, which have the same
        prompt, by the cosines of the ranker whose run is in the workdir `ranker`.
        """
        return best_of(samples, number, self.ranking(ranker, {s.language for s in samples}))

    def ranking(self, workdir: str, languages: Iterable[str] = ()) -> "Session":
        """The session of a ranker's run, which is opened once.

        Errors: UserError for a workdir that is no ranker's run, or a language that the ranker does
        not read.
        """
        if workdir not in self._rankers:
            self._rankers[workdir] = open_ranker(workdir)
        check_languages(self._rankers[workdir], workdir, languages)
        return self._rankers[workdir]

    def caption(
        self, images: np.ndarray, languages: Sequence[str], controls: Any, seed: int = 0
    ) -> list[Captioned]:
        """A caption of each image, in the language that `languages` has for the image."""
        self.require(Captioner)
        stage.enter(f"captioning {len(images)} pictures")
        start = np.array([START[g] for g in languages], np.int32)
        codes = self.codes(images)
        keys = sample_keys([seed] * len(codes), [c.tobytes() for c in codes])

        call = self.program.call("caption", controls)

        def run(codes: Any, start: Any, keys: Any) -> Any:
            return call(self.params, codes, start, jax.random.wrap_key_data(keys))

        ids, scores = self.batched(run, codes, start, keys)
        texts = [self.text_model.decode(row)[0] for row in ids]
        return [Captioned(t, g, float(s)) for t, g, s in zip(texts, languages, scores, strict=True)]

    def require(self, capability: type) -> None:
        """Errors: UserError unless the run's model has the capability, a protocol of NEEDS."""
        if not isinstance(self.experiment.model, capability):
            lacks, remedy = NEEDS[capability]
            role = self.experiment.model.role
            raise UserError(f"this workdir trained a {role}, which {lacks}; give {remedy}")

    def batched(self, call: Any, *arrays: np.ndarray) -> Any:
        """Calls `call` on batches of one size, which is a multiple of the shards of a batch, and
        joins the results.
        """
        n = len(arrays[0])
        size = self._size(n)
        parts = []
        for i in range(0, n, size):
            part = [a[i : i + size] for a in arrays]
            short = size - len(part[0])
            if short:
                part = [np.concatenate([a, np.repeat(a[-1:], short, 0)]) for a in part]
            parts.append(jax.device_get(call(*part)))
            stage.progress(min(i + size, n), n)
        return jax.tree.map(lambda *x: np.concatenate(x)[:n], *parts)

    def _size(self, n: int) -> int:
        """The rows of a batch where n rows are computed in all."""
        shards = self.program.batch_shards
        return -(-min(self.batch, 1 << max(0, n - 1).bit_length()) // shards) * shards


def fitting_layout(experiment: Experiment) -> Layout:
    """The experiment's layout, or the layout dp where the experiment's mesh does not fit the
    devices of this machine. Samples do not depend on the layout.
    """
    try:
        experiment.layout.sizes(jax.device_count())
    except UserError:
        return parse_layout("dp")
    return experiment.layout


def open_session(workdir: str, ema: bool = True, swap: bool = False) -> Session:
    """A session with the newest checkpoint of a workdir. `ema=False` takes the last parameters
    instead of their moving average; `swap` leaves the experts of a mixture on the host.
    """
    directory = Workdir(workdir)
    record = directory.read()
    stage.enter(f"opening {workdir}")
    experiment = build_experiment(record.config)
    program = Program(experiment, layout=fitting_layout(experiment))
    holder = (
        Program(experiment, jax.devices("cpu")[:1], layout=parse_layout("dp")) if swap else program
    )
    state, _ = restore(directory, holder)
    params = state.best_params if ema else state.params
    params = jax.device_get(params) if swap else params
    if not experiment.model.reads_codes:
        return Session(program, params, params, None, int(state.step))
    codec, codec_hash = codec_params(experiment.codec_workdir or directory.codec, program)
    if record.codec_hash not in (None, codec_hash):
        raise UserError(
            f"workdir={workdir!r}: its codec was {record.codec_hash}, the one found is"
            f" {codec_hash}; put the original back"
        )
    frozen = experiment.space.freeze(codec, record.latents)
    return Session(
        program, params, frozen, directory.text_model(experiment), int(state.step), swap=swap
    )


def open_ranker(workdir: str, languages: Iterable[str] = ()) -> Session:
    """The session of a ranker's run. Errors: UserError, which names the option `ranker`, for a
    workdir that is no ranker's run, or a language that the ranker does not read.
    """
    try:
        session = open_session(workdir)
        session.require(Embedder)
    except UserError as error:
        said = str(error).removeprefix(f"workdir={workdir!r}").removeprefix(":").strip()
        raise UserError(f"ranker={workdir!r}: {said}") from None
    check_languages(session, workdir, languages)
    return session
