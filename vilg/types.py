"""The central protocols and the letters of array shapes. The file imports nothing of vilg, so that
every part may import it.

Letters in jaxtyping strings: b batch, l length, q/s query/source positions, d width, h heads, k
head size, f feed-forward, v vocabulary, y/x rows/columns, c channels, m text length, n image
length, e experts, p features."""

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, TypeAlias, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

# A pytree of arrays or, straight from `init`, of nn.LogicallyPartitioned boxes.
Params = Any
# "image" uint8 [b, H, W, 3], "text" int32 [b, m]; a generator also gets "codes".
Batch = dict[str, Any]
# JAX assigns this class to a name, which pyright takes for a variable.
Device: TypeAlias = jax.Device  # pyright: ignore[reportInvalidTypeForm]
Metrics = dict[str, Array]


class UserError(Exception):
    """A mistake of the user: one sentence that names the field, the value and the remedy. The
    command exits with code 2."""


class Diverged(Exception):
    """The loss or the gradient became NaN or infinite."""


class Preempted(Exception):
    """A signal asked the run to stop; its state is saved."""


@runtime_checkable
class Trainable(Protocol):
    """A model that the training loop can train."""

    def init(self, key: Array) -> Params:
        """Parameters. Each leaf is an nn.LogicallyPartitioned box with an axis name of
        parallel/axes.py for each dimension."""
        ...

    def loss(self, params: Params, batch: Batch, key: Array, step: Array) -> tuple[Array, Metrics]:
        """A float32 scalar to minimise, and named float32 scalars to log."""
        ...


class Composite:
    """A config dataclass with sections among its fields."""

    # by field: the section's dataclass, or the table from which the section's "name" chooses it
    PARTS: ClassVar[Mapping[str, Any]] = {}


class Model(Composite):
    """Base class of codecs, generators and rankers, with the properties of a model that a run asks
    for.

    Every property has a default that holds for most models, so that a new model overrides only the
    others. The protocols below say what else a model can do: sample, caption, embed, ..."""

    role: ClassVar[str] = ""  # "codec", "generator" or "ranker"
    batch_field: ClassVar[str] = ""  # the config field that decides `batch_multiple`
    compares_rows: ClassVar[bool] = False  # whether the loss compares rows of one batch
    fields_free_at_start: ClassVar[tuple[str, ...]] = ()
    """Config fields in which a model may differ from the run that training starts from."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the batch's arrays that the loss reads (data/batch.py lists all names)."""
        return ("image",)

    @property
    def space(self) -> str:
        """The codes of pictures that the model reads or generates, an entry of
        codecs/spaces.py:SPACES: "ids" or "latents" of a frozen codec, or "own" for a codec that is
        trained."""
        return "latents"

    @property
    def reads_codes(self) -> bool:
        """Whether the loss reads codes of a frozen codec ("codes") instead of pictures."""
        return True

    @property
    def batch_multiple(self) -> int:
        """A microbatch on one device must be a multiple of this many rows."""
        return 1

    @property
    def size_multiple(self) -> int:
        """Each side of a grid of codes must be a multiple of this many codes."""
        return 1

    @property
    def uses_code_vectors(self) -> bool:
        """Whether `with_code_vectors` puts the codec's code vectors into the parameters."""
        return False

    def labels(self, params: Params) -> PyTree | None:
        """The optimizer's labels, as a pytree with the structure of the parameters (parameters
        labelled "frozen" are not updated), or None where one optimizer updates all parameters."""
        return None

    def init_statistics(self) -> PyTree | None:
        """State that no gradient reaches (codebook usage): a pytree of arrays, or None."""
        return None

    def after_update(
        self, params: Params, statistics: PyTree, observed: PyTree, key: Array, step: Array
    ) -> tuple[Params, PyTree, Metrics]:
        """The parameters, statistics and metrics after the optimizer's update.

        `observed` is the value that the loss returned as metrics["observed"]; every leaf has a
        leading axis of microbatches."""
        return params, statistics, {}

    def upcycle(self, params: Params) -> Params:
        """This model's parameters from those of a smaller model of the same kind, such as experts
        from one dense denoiser (sparse upcycling, arXiv 2212.05055). Parameters of this model are
        returned unchanged."""
        return params

    def with_code_vectors(self, params: Params, vectors: Float[Array, "v d"]) -> Params:
        """The parameters with the codec's code vectors in them, before the first update."""
        return params

    def unrolled(self, params: Params) -> Params:
        """The parameters, or their gradients, in the layout of this model with scan=False."""
        return params

    def model_flops(self, batch: int) -> float | None:
        """FLOPs of an update's forward and backward pass on `batch` rows, without recomputation;
        None where they should be counted from the traced loss."""
        return None

    def check_knowledge(self, attention: float, regions: float) -> None:
        """Checks the shares of samples whose key words and regions the data marks.

        Errors: UserError where the model has a weight for marks that the data does not make."""

    @property
    def weighs_knowledge(self) -> bool:
        """Whether the loss reads marks of key words and regions (ERNIE-ViLG 2.0)."""
        return False


@runtime_checkable
class Codec(Protocol):
    """Encodes pixels to latents and decodes latents to pixels, which every codec can do. Images are
    float32 in [-1, 1]."""

    image_size: int
    grid: tuple[int, int]
    latent_channels: int

    def latents(self, params: Params, images: Float[Array, "b H W 3"]) -> Float[Array, "b y x c"]:
        """The latents of images, float32. The encoding is deterministic."""
        ...

    def from_latents(
        self, params: Params, latents: Float[Array, "b y x c"]
    ) -> Float[Array, "b H W 3"]:
        """Images in [-1, 1]."""
        ...


@runtime_checkable
class Tokenizer(Codec, Protocol):
    """A Codec that also encodes pixels to ids of a vocabulary and decodes ids; each id has a
    vector."""

    vocabulary: int
    code_width: int

    def encode(self, params: Params, images: Float[Array, "b H W 3"]) -> Int[Array, "b y x"]:
        """The codes of images. The encoding is deterministic."""
        ...

    def decode(self, params: Params, codes: Int[Array, "b y x"]) -> Float[Array, "b H W 3"]:
        """Images in [-1, 1]."""
        ...

    def vectors(self, params: Params) -> Float[Array, "v d"]:
        """The vector of each code."""
        ...


@runtime_checkable
class Generator(Protocol):
    """A distribution over images given text."""

    @property
    def space(self) -> str:
        """The codes that it generates: a codec's "ids" or its "latents" (codecs/spaces.py)."""
        ...

    def controls(self, options: Any) -> Any:
        """The sampler's options, from a mapping of those that the user sets. Errors: UserError for
        an option that the sampler does not have."""
        ...

    def sample(self, params: Params, text: Int[Array, "b m"], keys: Array, controls: Any) -> Any:
        """Codes of one image for each prompt. `keys` has one key for each row, so that a row does
        not depend on the other rows of its batch."""
        ...


@runtime_checkable
class Stepwise(Protocol):
    """A Generator whose sampling is many steps of one program, so that a sampler can show progress,
    and hold one expert's parameters at a time.

    `inputs` holds "text" [b, m] and, where the user asks for it, "negative" (text of what to
    avoid), "init" (codes to start from) and "mask" [b, y, x] (1 where to paint, 0 where `init`
    stays)."""

    def sampling_schedule(self, controls: object) -> Any:
        """The evaluations: `times` [k], `rows` (a mapping of arrays [k, ...]) and `runs`, tuples
        (expert, first, last), of which each means the evaluations first to last - 1."""
        ...

    def shared_params(self, params: Params) -> Params:
        """The parameters that are needed before the first evaluation."""
        ...

    def expert_params(self, params: Params, index: int | Array) -> Params:
        """The parameters that the evaluations of one expert need."""
        ...

    def begin(
        self,
        params: Params,
        inputs: Mapping[str, Array],
        keys: Array,
        controls: object,
        grid: tuple[int, int] | None = None,
    ) -> Any:
        """The state before the first evaluation, on a grid of codes (None: the codec's)."""
        ...

    def advance(
        self, weights: Params, state: PyTree, row: PyTree, index: Array, keys: Array
    ) -> PyTree:
        """The state after evaluation `index`; `row` holds its slice of the schedule's rows."""
        ...

    def estimate(self, state: PyTree) -> tuple[Array, Array]:
        """The codes as they are estimated at this moment of sampling, and which positions [b y x]
        are known yet."""
        ...

    def finish(self, state: PyTree) -> PyTree:
        """The codes."""
        ...


@runtime_checkable
class Sequential(Protocol):
    """A Generator that samples the codes of a picture one after another."""

    def code_order(self) -> np.ndarray:
        """The place [y, x] of each code in the order of sampling, from 0."""
        ...


@runtime_checkable
class Likelihood(Protocol):
    """A model that computes the likelihood of an image given a text."""

    def log_likelihood(
        self, params: Params, text: Int[Array, "b m"], codes: Int[Array, "b y x"]
    ) -> Float[Array, " b"]:
        """log p(codes | text) in nats, summed over an image's codes."""
        ...


@runtime_checkable
class Ranker(Protocol):
    """A model that scores how well a text fits an image. Scores are comparable only between texts
    of one image."""

    def agreement(
        self, params: Params, text: Int[Array, "b m"], codes: Array
    ) -> Float[Array, " b"]:
        """A score for each row, larger where the text explains the codes better."""
        ...


@runtime_checkable
class Embedder(Protocol):
    """A model that embeds pictures and texts in one space, where the cosine scores how well they
    fit. The scores are comparable between texts of one image and between images of one text."""

    def embed_images(self, params: Params, codes: Array) -> Float[Array, "b p"]:
        """Features of unit length of the pictures' codes."""
        ...

    def embed_texts(self, params: Params, text: Int[Array, "b m"]) -> Float[Array, "b p"]:
        """Features of unit length of text ids."""
        ...


@runtime_checkable
class NoiseConditional(Protocol):
    """A Generator that is trained at noise levels given by a time, from clean (0) to noise (1)."""

    @property
    def process(self) -> Any:
        """The noise process (vilg/processes)."""
        ...

    def errors_at(
        self, params: Params, text: Int[Array, "b m"], codes: Array, t: Float[Array, ""]
    ) -> Float[Array, " b"]:
        """The error of each row's prediction of its codes at one time, with the same noise for
        every text."""
        ...


@runtime_checkable
class Captioner(Protocol):
    """A model that also captions: it generates a text for an image."""

    def caption(
        self,
        params: Params,
        codes: Int[Array, "b y x"],
        start: Int[Array, " b"],
        keys: Array,
        controls: Any,
    ) -> Any:
        """Text ids [b, m] and the log-likelihood [b] of each caption; `start` is each row's
        start-of-text id, which names the language."""
        ...


# The first ids of every text model, which vilg/data/text.py trains in this order. Generators use
# them too.
PAD, UNKNOWN = 0, 1
START = {"zh": 2, "en": 3}
END = 4
