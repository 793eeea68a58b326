"""The central protocols and array letters. Imports nothing of vilg, so every part may import it.

Letters in jaxtyping strings: b batch, l length, q/s query/source positions, d width, h heads, k
head size, f feed-forward, v vocabulary, y/x rows/columns, c channels, m text length, n image
length, e experts, p features."""

from typing import Any, Protocol, runtime_checkable

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
    """Anything the loop can improve; the loop never learns what it is."""

    @property
    def batch_multiple(self) -> int:
        """A microbatch on one device must be a multiple of this many rows (`batch_field` names the
        config field that says so).
        """
        ...

    def init(self, key: Array) -> Params:
        """Parameters, each leaf an nn.LogicallyPartitioned box with an axis name of
        parallel/axes.py a dimension.
        """
        ...

    def loss(self, params: Params, batch: Batch, key: Array, step: Array) -> tuple[Array, Metrics]:
        """A float32 scalar to minimise, and named float32 scalars to log."""
        ...


@runtime_checkable
class Maintained(Protocol):
    """A Trainable with state that no gradient reaches (codebook usage). `loss` puts what it saw in
    metrics["observed"].
    """

    def statistics(self) -> Any:
        """The initial state: a pytree of arrays."""
        ...

    def maintain(
        self, params: Params, statistics: Any, observed: Any, key: Array, step: Array
    ) -> tuple[Params, Any, Metrics]:
        """Parameters and state after the optimizer's update. Every leaf of `observed` has a leading
        axis of microbatches.
        """
        ...


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

    def plan(self, controls: Any) -> Any:
        """What is to be done: `times` [k], `rows` (a dict of arrays [k, ...]) and `runs`, a list of
        (expert, first, last) evaluations.
        """
        ...

    def shared(self, params: Params) -> Params:
        """The parameters that are needed before the first evaluation."""
        ...

    def expert(self, params: Params, index: Any) -> Params:
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
        """The state after evaluation `index`; `row` holds its slice of the plan."""
        ...

    def finish(self, state: Any) -> Any:
        """The codes."""
        ...


@runtime_checkable
class Growing(Protocol):
    """A Generator that may start from a smaller one of the same kind."""

    def grow(self, params: Params) -> Params:
        """Its own parameters, from the smaller one's; its own come back as they are."""
        ...


@runtime_checkable
class Adopter(Protocol):
    """A Generator that may build on its codec's code vectors; asked once, before the first
    update.
    """

    def adopt(self, params: Params, vectors: Float[Array, "v d"]) -> Params:
        """The parameters with the vectors in them."""
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
class Levelled(Protocol):
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
