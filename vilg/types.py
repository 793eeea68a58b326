"""The central protocols and array letters. Imports nothing of vilg, so every part may import it.

Letters in jaxtyping strings: b batch, l length, q/s query/source positions, d width, h heads, k
head size, f feed-forward, v vocabulary, y/x rows/columns, c channels, m text length, n image
length, e experts, p features."""

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

from jaxtyping import Array, Float, Int

Params = (
    Any  # a pytree of arrays (unboxed), or of nn.LogicallyPartitioned boxes straight from `init`
)
Batch = dict[
    str, Any
]  # "image" uint8 [b, H, W, 3], "text" int32 [b, m]; a generator also gets "codes"
Metrics = dict[str, Array]


class UserError(Exception):
    """A mistake of the user's: one sentence that names the field, the value and the remedy. The
    command exits with 2.
    """


class Diverged(Exception):
    """The loss or the gradient became NaN or infinite."""


class Preempted(Exception):
    """A signal asked the run to stop; everything is saved."""


@runtime_checkable
class Trainable(Protocol):
    """A model that the training loop can train."""

    def init(self, key: Array) -> Params:
        """Parameters, each leaf an nn.LogicallyPartitioned box with an axis name of
        parallel/axes.py a dimension.
        """
        ...

    def loss(self, params: Params, batch: Batch, key: Array, step: Array) -> tuple[Array, Metrics]:
        """A float32 scalar to minimise, and named float32 scalars to log."""
        ...


class Composite:
    """A config dataclass with sections among its fields."""

    # by field: the dataclass of the section, or the table in which the section's "name" finds it
    PARTS: ClassVar[Mapping[str, Any]] = {}


class Model(Composite):
    """Base class of codecs, generators and rankers: what a run may ask of the model that it trains.

    Every answer has a default that holds for most models, so that a new model overrides only what
    differs. What a model can do beside training (sample, caption, embed, ...) is said by the
    protocols below.
    """

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
        """The codes of pictures that the model reads or draws, an entry of codecs/spaces.py:SPACES:
        "ids" or "latents" of a frozen codec, or "own" for a codec's own codes.
        """
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

    def labels(self, params: Params) -> Any:
        """A pytree like the parameters of the optimizer's labels ("frozen" is not updated), or
        None where one optimizer updates all parameters.
        """
        return None

    def init_statistics(self) -> Any:
        """State that no gradient reaches (codebook usage): a pytree of arrays, or None."""
        return None

    def after_update(
        self, params: Params, statistics: Any, observed: Any, key: Array, step: Array
    ) -> tuple[Params, Any, Metrics]:
        """(parameters, statistics, metrics) after the optimizer's update.

        `observed` is what the loss put into metrics["observed"]; every leaf has a leading axis of
        microbatches.
        """
        return params, statistics, {}

    def upcycle(self, params: Params) -> Params:
        """This model's parameters from those of a smaller model of the same kind, such as experts
        from one dense denoiser (sparse upcycling, arXiv 2212.05055); its own parameters come back
        as they are.
        """
        return params

    def with_code_vectors(self, params: Params, vectors: Float[Array, "v d"]) -> Params:
        """The parameters with the codec's code vectors in them, before the first update."""
        return params

    def unrolled(self, params: Params) -> Params:
        """Parameters, or their gradients, as the same model has them with scan=False."""
        return params

    def model_flops(self, batch: int) -> float | None:
        """FLOPs of an update's forward and backward pass on `batch` rows, nothing recomputed;
        None where they are to be counted from the traced loss.
        """
        return None

    def check_knowledge(self, attention: float, regions: float) -> None:
        """Checks the shares of samples whose key words and regions the data marks.

        Errors: UserError where the model weighs what the data does not mark.
        """

    @property
    def weighs_knowledge(self) -> bool:
        """Whether the loss reads marks of key words and regions (ERNIE-ViLG 2.0)."""
        return False


@runtime_checkable
class Codec(Protocol):
    """Pixels <-> latents, which every codec has. Images are float32 in [-1, 1]."""

    image_size: int
    grid: tuple[int, int]
    latent_channels: int

    def latents(self, params: Params, images: Float[Array, "b H W 3"]) -> Float[Array, "b y x c"]:
        """The latents of images, float32, deterministic."""
        ...

    def from_latents(
        self, params: Params, latents: Float[Array, "b y x c"]
    ) -> Float[Array, "b H W 3"]:
        """Images in [-1, 1]."""
        ...


@runtime_checkable
class Tokenizer(Codec, Protocol):
    """A Codec of ids: pixels <-> codes of a vocabulary, each with a vector."""

    vocabulary: int
    code_width: int

    def encode(self, params: Params, images: Float[Array, "b H W 3"]) -> Int[Array, "b y x"]:
        """The codes of images, deterministic."""
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
        """What it draws: a codec's "ids" or its "latents" (codecs/spaces.py)."""
        ...

    def controls(self, given: Any) -> Any:
        """The sampler's options, from a mapping of those that were given. Errors: UserError for one
        that it does not have.
        """
        ...

    def sample(self, params: Params, text: Int[Array, "b m"], keys: Array, controls: Any) -> Any:
        """Codes of one image a prompt; `keys` has one key a row, so that a row does not depend on
        its batch mates.
        """
        ...


@runtime_checkable
class Stepwise(Protocol):
    """A Generator whose sampling is many steps of one program, so that a run of it can show
    progress, and hold one expert at a time.

    `inputs`: "text" [b, m], and where asked for "negative" (text of what to avoid), "init" (codes
    to start from) and "mask" [b, y, x] (1 where to paint, 0 where `init` is kept)."""

    def sampling_schedule(self, controls: Any) -> Any:
        """The evaluations: `times` [k], `rows` (a dict of arrays [k, ...]) and `runs`, tuples
        (expert, first, last) of the evaluations first to last - 1.
        """
        ...

    def shared_params(self, params: Params) -> Params:
        """The parameters that are needed before the first evaluation."""
        ...

    def expert_params(self, params: Params, index: Any) -> Params:
        """The parameters that the evaluations of one expert need."""
        ...

    def begin(
        self,
        params: Params,
        inputs: Any,
        keys: Array,
        controls: Any,
        grid: tuple[int, int] | None = None,
    ) -> Any:
        """The state before the first evaluation, on a grid of codes (None: the codec's)."""
        ...

    def advance(self, weights: Params, state: Any, row: Any, index: Array, keys: Array) -> Any:
        """The state after evaluation `index`; `row` holds its slice of the schedule's rows."""
        ...

    def finish(self, state: Any) -> Any:
        """The codes."""
        ...


@runtime_checkable
class Likelihood(Protocol):
    """Says how likely an image is, given a text."""

    def log_likelihood(
        self, params: Params, text: Int[Array, "b m"], codes: Int[Array, "b y x"]
    ) -> Float[Array, " b"]:
        """Nats, summed over an image's codes."""
        ...


@runtime_checkable
class Ranker(Protocol):
    """Says which of several texts goes best with an image; comparable only between texts of one
    image.
    """

    def agreement(self, params: Params, text: Int[Array, "b m"], codes: Any) -> Float[Array, " b"]:
        """Larger where the text explains the codes better."""
        ...


@runtime_checkable
class Embedder(Protocol):
    """Puts pictures and texts into one space, where the cosine says how well they go together,
    whichever of them is compared.
    """

    def embed_images(self, params: Params, codes: Any) -> Float[Array, "b p"]:
        """Features of unit length of pictures' codes."""
        ...

    def embed_texts(self, params: Params, text: Int[Array, "b m"]) -> Float[Array, "b p"]:
        """Features of unit length of text ids."""
        ...


@runtime_checkable
class NoiseConditional(Protocol):
    """A Generator that is trained at a time, from clean (0) to noise (1)."""

    @property
    def process(self) -> Any:
        """What noise does (vilg/processes)."""
        ...

    def errors_at(
        self, params: Params, text: Int[Array, "b m"], codes: Any, t: Float[Array, ""]
    ) -> Float[Array, " b"]:
        """How wrong each row's prediction of its codes is at one time, with the same noise whatever
        the text.
        """
        ...


@runtime_checkable
class Captioner(Protocol):
    """Runs backwards too."""

    def caption(
        self,
        params: Params,
        codes: Int[Array, "b y x"],
        start: Int[Array, " b"],
        keys: Array,
        controls: Any,
    ) -> Any:
        """(text ids [b, m], log-likelihood [b]); `start` is each row's start-of-text id, which
        names the language.
        """
        ...


# The first ids of every text model (vilg/data/text.py trains them in this order), known to
# generators too.
PAD, UNKNOWN = 0, 1
START = {"zh": 2, "en": 3}
END = 4
