"""ERNIE-ViLG 1.0: one transformer with shared parameters, a prefix language model in both
directions (arXiv 2112.15283; PAPERS 2).

text_to_image: text is the source (bidirectional), image codes are the target. The state of the last
text position predicts the first code, the state at code k predicts code k + 1. image_to_text: the
image is the source, text the target; text position 0 holds the start id that names the language. In
memory text always comes first: direction only selects masks (vilg/nn/geometry.py)."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vilg.config import lookup, require
from vilg.generators.guidance import Controls, choose, empty_prompt, guide, with_options
from vilg.nn import code_tables
from vilg.nn.attention import check_implementation
from vilg.nn.code_tables import CodeTables
from vilg.nn.dense import DTYPES
from vilg.nn.embed import TokenEmbed
from vilg.nn.geometry import Geometry
from vilg.nn.layer_patterns import schedule
from vilg.nn.patterns import PatternOptions, make_pattern
from vilg.nn.remat import REMAT
from vilg.nn.transformer import TrunkConfig
from vilg.nn.trunk import Trunk, unrolled
from vilg.parallel.axes import named
from vilg.parallel.constrain import constrain
from vilg.types import END, PAD, Batch, Metrics, Params


class Model(nn.Module):
    """Embeddings, trunk and the two output heads."""

    config: TrunkConfig
    text_vocabulary: int
    image_vocabulary: int
    tie: bool
    embed_scale: float
    text_window: int
    image_window: int

    def setup(self) -> None:
        s = self.config
        windows = self.text_window, self.image_window
        self.embed = TokenEmbed(
            s.width,
            self.text_vocabulary,
            s.text_length,
            self.image_vocabulary,
            s.grid,
            self.embed_scale,
            *windows,
        )
        self.trunk = Trunk(s)
        init = nn.initializers.normal(s.width**-0.5)
        if not self.tie:
            self.text_head = self.param(
                "text_head",
                named(init, "embed", "vocab"),
                (s.width, self.text_vocabulary),
                jnp.float32,
            )
            self.image_head = self.param(
                "image_head",
                named(init, "embed", "vocab"),
                (s.width, self.image_vocabulary),
                jnp.float32,
            )

    def text_logits(self, states: Float[Array, "b l d"]) -> Float[Array, "b l v"]:
        """f32 logits over text ids."""
        return self._logits(states, self.embed.text_table.T if self.tie else self.text_head)

    def image_logits(self, states: Float[Array, "b l d"]) -> Float[Array, "b l v"]:
        """f32 logits over image codes."""
        return self._logits(states, self.embed.image_table.T if self.tie else self.image_head)

    def _logits(self, states: Array, head: Array) -> Array:
        logits = jnp.einsum(
            "bld,dv->blv", states, head.astype(states.dtype), preferred_element_type=jnp.float32
        )
        return constrain(logits, "batch", "length", "vocab")

    def __call__(self, text: Int[Array, "b m"], codes: Int[Array, "b n"]) -> tuple[Array, Array]:
        """(logits of the image given text, logits of the text given image): both directions,
        teacher forced.
        """
        return self.image_given_text(text, codes), self.text_given_image(text, codes)

    def _stream(self, text: Array, codes: Array, direction: str) -> Array:
        x = jnp.concatenate(
            [self.embed.text(text, direction), self.embed.image(codes, direction)], 1
        )
        return constrain(x.astype(self.config.dtype), "batch", "length", "embed")

    def image_given_text(
        self, text: Int[Array, "b m"], codes: Int[Array, "b n"]
    ) -> Float[Array, "b n v"]:
        """Logits of every code given the text and the codes before it."""
        m = self.config.text_length
        states = self.trunk.full(self._stream(text, codes, "text_to_image"), "text_to_image")
        return self.image_logits(states[:, m - 1 : -1])

    def text_given_image(
        self, text: Int[Array, "b m"], codes: Int[Array, "b n"]
    ) -> Float[Array, "b m-1 v"]:
        """Logits of text ids 1 .. m-1 given the image and the ids before them."""
        m = self.config.text_length
        states = self.trunk.full(self._stream(text, codes, "image_to_text"), "image_to_text")
        return self.text_logits(states[:, : m - 1])

    def together(
        self, prompt: Int[Array, "b m"], text: Int[Array, "e m"], codes: Int[Array, "b n"]
    ) -> tuple[Array, Array]:
        """`image_given_text` of all rows and `text_given_image` of every so many of them (whose
        `text` it is), in one pass through the trunk: a layer's weights are fetched once for both. A
        row of captions goes beside the rows that it belongs to."""
        m, every = self.config.text_length, prompt.shape[0] // text.shape[0]
        first, second = (
            self._stream(prompt, codes, "text_to_image"),
            self._stream(text, codes[::every], "image_to_text"),
        )
        x = jnp.concatenate([first.reshape(-1, every, *first.shape[1:]), second[:, None]], 1)
        x = constrain(x.reshape(-1, *x.shape[2:]), "batch", "length", "embed")
        states = self.trunk.full(x, (("text_to_image", every), ("image_to_text", 1)))
        states = states.reshape(-1, every + 1, *states.shape[1:])
        image = states[:, :every, m - 1 : -1].reshape(*codes.shape, -1)
        return self.image_logits(image), self.text_logits(states[:, every, : m - 1])

    def read_text(self, text: Int[Array, "b m"]) -> tuple[Float[Array, "b v"], Any]:
        """Logits of the first code, and caches that hold the text."""
        x = self.embed.text(text, "text_to_image").astype(self.config.dtype)
        states, caches = self.trunk.source(x, "text_to_image")
        return self.image_logits(states[:, -1:])[:, 0], caches

    def read_image(self, codes: Int[Array, "b n"]) -> Any:
        """Caches that hold the image."""
        x = self.embed.image(codes, "image_to_text").astype(self.config.dtype)
        return self.trunk.source(x, "image_to_text")[1]

    def next_code(
        self, codes: Int[Array, "b n"], caches: Any, position: Array
    ) -> tuple[Float[Array, "b v"], Any]:
        """Logits of the code after the one at raster index `position`; codes after it are not
        read.
        """
        x = self.embed.image(codes, "text_to_image", position).astype(self.config.dtype)
        states, caches = self.trunk.step(x, caches, position, "text_to_image")
        return self.image_logits(states)[:, 0], caches

    def next_text(
        self, ids: Int[Array, "b m"], caches: Any, position: Array
    ) -> tuple[Float[Array, "b v"], Any]:
        """Logits of the text id after the one at text position `position`; ids after it are not
        read.
        """
        x = self.embed.text(ids, "image_to_text", position).astype(self.config.dtype)
        states, caches = self.trunk.step(x, caches, position, "image_to_text")
        return self.text_logits(states)[:, 0], caches


@dataclasses.dataclass(frozen=True)
class Autoregressive:
    """The generator: fields are the config. Implements Trainable, Generator and Captioner."""

    space: ClassVar[str] = "ids"
    batch_field: ClassVar[str] = "generator.caption_every"
    defaults: ClassVar[Controls] = Controls(guidance=2.0, temperature=0.8)

    image_vocabulary: int  # given by the codec
    grid: tuple[int, int]  # given by the codec
    text_vocabulary: int  # given by data.text
    text_length: int  # given by data.text
    code_width: int = 0  # given by the codec: the length of its code vectors
    width: int = 128
    layers: int = 4
    heads: int = 4
    mlp_ratio: float = 4.0
    patterns: Any = "dense"  # "dense", "ernie_vilg" (PAPERS 2.1), or one name a layer
    row_mode: Literal["raster_window", "same_row"] = "raster_window"
    convolution: int = 11
    # IMPLEMENTATIONS in vilg/nn/attention.py; "auto": by the devices that the program is for
    attention: str = "blockwise"
    qk_norm: bool = False
    rotary_base: float = (
        0.0  # rotary positions beside the learned ones; 0: none (the paper's scheme is unknown)
    )
    tie: bool = False
    code_embedding: Literal["table", "codec"] = (
        "table"  # a row a code (the paper), or that and a function of its code vector
    )
    embed_scale: float = 0.02
    text_window: int = (
        0  # ids before it that each text state holds too (vilg/nn/embed.py; the paper: 0)
    )
    image_window: int = (
        0  # radius of the square whose codes before it each image state holds too (the paper: 0)
    )
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: str = "none"
    scan: bool = True
    text_to_image_weight: float = 1.0  # PAPERS 2.4: both directions, equal weight
    image_to_text_weight: float = 1.0
    directions: Literal["apart", "together"] = (
        "apart"  # one pass through the layers for each, or one for both (weights fetched once)
    )
    caption_every: int = 1  # every so many rows of a batch, one also trains image_to_text
    drop_text: float = (
        0.1  # share of rows whose text becomes the empty prompt, for classifier-free guidance
    )

    def __post_init__(self) -> None:
        require(
            self.heads > 0 and self.width % self.heads == 0,
            "generator.heads",
            self.heads,
            f"must divide generator.width={self.width}",
        )
        fits = self.rotary_base == 0 or (self.rotary_base > 1 and self.width // self.heads % 4 == 0)
        require(
            fits,
            "generator.rotary_base",
            self.rotary_base,
            "must be 0, or above 1 with heads of a multiple of 4",
        )
        require(self.width > 0, "generator.width", self.width, "must be at least 1")
        require(
            self.mlp_ratio * self.width >= 1,
            "generator.mlp_ratio",
            self.mlp_ratio,
            "must leave the feed-forward layer a width of at least 1",
        )
        require(self.layers > 0, "generator.layers", self.layers, "must be at least 1")
        require(self.text_length > 1, "data.text.length", self.text_length, "must be at least 2")
        require(
            self.caption_every > 0,
            "generator.caption_every",
            self.caption_every,
            "must be at least 1",
        )
        room = f"must be from 0 to {self.text_length - 1}, below data.text.length"
        require(
            0 <= self.text_window < self.text_length,
            "generator.text_window",
            self.text_window,
            room,
        )
        require(
            0 <= self.image_window < min(self.grid),
            "generator.image_window",
            self.image_window,
            f"must be from 0 to {min(self.grid) - 1}",
        )
        require(
            0 <= self.drop_text < 1, "generator.drop_text", self.drop_text, "must lie in [0, 1)"
        )
        lookup(REMAT, self.remat, "generator.remat")
        check_implementation(self.attention, "generator.attention")
        vectors = self.code_embedding == "table" or self.code_width > 0
        require(
            vectors,
            "generator.code_embedding",
            self.code_embedding,
            "needs a codec with code vectors; give 'table'",
        )
        _ = self.model  # the patterns are checked when the experiment is built

    @property
    def batch_multiple(self) -> int:
        """Rows that belong together: of each so many, one trains captions."""
        return self.caption_every

    def controls(self, given: Mapping[str, Any]) -> Controls:
        """The sampler's options. Errors: UserError for one that it does not have."""
        return with_options(self.defaults, given, "an autoregressive generator")

    @property
    def model(self) -> Model:
        """The Linen module."""
        options = PatternOptions(row_mode=self.row_mode, convolution=self.convolution)
        names = schedule(self.patterns, self.layers)
        config = TrunkConfig(
            width=self.width,
            heads=self.heads,
            mlp_width=int(self.width * self.mlp_ratio),
            patterns=tuple(make_pattern(name, options) for name in names),
            text_length=self.text_length,
            grid=self.grid,
            implementation=self.attention,
            qk_norm=self.qk_norm,
            rotary_base=self.rotary_base,
            remat=self.remat,
            scan=self.scan,
            dtype=DTYPES[self.dtype],
        )
        return Model(
            config,
            self.text_vocabulary,
            self.image_vocabulary,
            self.tie,
            self.embed_scale,
            self.text_window,
            self.image_window,
        )

    def init(self, key: Array) -> Params:
        """Boxed parameters."""
        text = jnp.zeros((1, self.text_length), jnp.int32)
        codes = jnp.zeros((1, self.grid[0] * self.grid[1]), jnp.int32)
        params = self.model.init(key, text, codes)["params"]
        if self.code_embedding == "codec":
            params = {**params, "codes": self._tables.init(jax.random.fold_in(key, 1))["params"]}
        return params

    def labels(self, params: Params) -> Any:
        """ "frozen" for the codec's vectors, "generator" for all else; None where there is nothing
        frozen.
        """
        if self.code_embedding == "table":
            return None
        labels = jax.tree.map(lambda _: "generator", params)
        return {**labels, "codes": {**labels["codes"], "vectors": "frozen"}}

    def adopt(self, params: Params, vectors: Float[Array, "v d"]) -> Params:
        """The parameters with the codec's code vectors in them, where this model uses them."""
        return (
            params
            if self.code_embedding == "table"
            else {**params, "codes": code_tables.adopt(params["codes"], vectors)}
        )

    @property
    def _tables(self) -> CodeTables:
        return CodeTables(self.image_vocabulary, self.code_width, self.width, head=not self.tie)

    def plain(self, params: Params) -> Params:
        """The parameters of `model`: what comes from code vectors is computed and added to its
        tables.
        """
        if self.code_embedding == "table":
            return params
        rows: Any = self._tables.apply({"params": params["codes"]})
        table, head = rows
        plain = {k: v for k, v in params.items() if k != "codes"}
        plain["embed"] = {**plain["embed"], "image_table": plain["embed"]["image_table"] + table}
        return plain if head is None else plain | {"image_head": plain["image_head"] + head.T}

    def loss(self, params: Params, batch: Batch, key: Array, step: Array) -> tuple[Array, Metrics]:
        """Weighted sum of the two directions' mean token NLL in nats (PAPERS 2.4): target only,
        padding not counted.
        """
        params, text, codes = self.plain(params), batch["text"], batch["codes"]
        codes = codes.reshape(codes.shape[0], -1)
        dropped = jax.random.bernoulli(key, self.drop_text, (text.shape[0], 1))
        prompt = jnp.where(dropped, empty_prompt(text), text)
        text = text[:: self.caption_every]
        if self.directions == "together":
            image_logits, text_logits = self.model.apply(
                {"params": params}, prompt, text, codes, method="together"
            )
        else:
            image_logits = self.model.apply(
                {"params": params}, prompt, codes, method="image_given_text"
            )
            text_logits = self.model.apply(
                {"params": params}, text, codes[:: self.caption_every], method="text_given_image"
            )
        image_loss = jnp.mean(token_nll(image_logits, codes))
        targets = text[:, 1:]
        counted = (targets != PAD).astype(jnp.float32)
        text_loss = jnp.sum(token_nll(text_logits, targets) * counted) / jnp.maximum(
            jnp.sum(counted), 1
        )
        loss = self.text_to_image_weight * image_loss + self.image_to_text_weight * text_loss
        return loss, {"text_to_image": image_loss, "image_to_text": text_loss}

    def model_flops(self, batch: int) -> float:
        """FLOPs of an update's forward and backward pass on so many rows, nothing recomputed: 6 x
        parameters of matrix products (tables that are looked up excluded, output heads included) x
        positions, and attention at 12 d x the pairs that each layer's mask shows."""
        model, n = self.model, self.grid[0] * self.grid[1]
        d, captions, positions = self.width, batch // self.caption_every, self.text_length + n
        layer = 4 * d * d + 2 * d * model.config.mlp_width
        products = self.layers * layer * (batch + captions) * positions
        products += d * (
            self.image_vocabulary * batch * n
            + self.text_vocabulary * captions * (self.text_length - 1)
        )
        pairs = 0.0
        for direction, rows in (("text_to_image", batch), ("image_to_text", captions)):
            for pattern in model.config.patterns:
                geometry = Geometry(pattern, direction, self.text_length, self.grid)
                pairs += rows * float(geometry.mask().sum())
        return 6.0 * products + 12.0 * d * pairs

    def log_likelihood(
        self, params: Params, text: Int[Array, "b m"], codes: Int[Array, "b y x"]
    ) -> Float[Array, " b"]:
        """log p(codes | text) in nats, without guidance or temperature."""
        params, codes = self.plain(params), codes.reshape(codes.shape[0], -1)
        logits = self.model.apply({"params": params}, text, codes, method="image_given_text")
        return -jnp.sum(token_nll(logits, codes), -1)

    def _decoder(self, params: Params) -> tuple[Model, Params]:
        """The model with unrolled layers, and its variables."""
        params = self.plain(params)
        if not self.scan:
            return self.model, {"params": params}
        return dataclasses.replace(self, scan=False).model, {"params": self.unrolled(params)}

    def unrolled(self, params: Params) -> Params:
        """Parameters, or their gradients, as the same generator has them with scan=False."""
        return {**params, "trunk": unrolled(params["trunk"])}

    def sample(
        self, params: Params, text: Int[Array, "b m"], keys: Array, controls: Controls
    ) -> Int[Array, "b y x"]:
        """Codes of one image a prompt, by cached decoding; with guidance the empty prompt runs
        beside each prompt.
        """
        (model, variables), b = self._decoder(params), text.shape[0]
        guided = controls.guidance != 1
        prompts = jnp.concatenate([text, empty_prompt(text)]) if guided else text

        def pick(logits: Array, position: Array) -> Array:
            if guided:
                logits = guide(logits[:b], logits[b:], controls.guidance)
            return choose(logits, keys, position, controls)

        def body(carry: Any, position: Array) -> tuple[Any, None]:
            codes, caches = carry
            both = jnp.concatenate([codes, codes]) if guided else codes
            logits, caches = model.apply(variables, both, caches, position, method="next_code")
            return (codes.at[:, position + 1].set(pick(logits, position + 1)), caches), None

        logits, caches = model.apply(variables, prompts, method="read_text")
        n = self.grid[0] * self.grid[1]
        codes = jnp.zeros((b, n), jnp.int32).at[:, 0].set(pick(logits, jnp.int32(0)))
        (codes, _), _ = jax.lax.scan(body, (codes, caches), jnp.arange(n - 1))
        return codes.reshape(b, *self.grid)

    def caption(
        self,
        params: Params,
        codes: Int[Array, "b y x"],
        start: Int[Array, " b"],
        keys: Array,
        controls: Controls,
    ) -> tuple[Int[Array, "b m"], Float[Array, " b"]]:
        """Text ids that begin with `start`, PAD after END, and each caption's log-likelihood (nats)
        under the model.
        """
        (model, variables), b = self._decoder(params), codes.shape[0]
        caches = model.apply(variables, codes.reshape(b, -1), method="read_image")
        never = jnp.zeros((self.text_vocabulary,)).at[jnp.array([PAD])].set(-jnp.inf)

        def body(carry: Any, position: Array) -> tuple[Any, None]:
            ids, done, score, caches = carry
            logits, caches = model.apply(variables, ids, caches, position, method="next_text")
            logits = logits + never
            following = choose(logits, keys, position, controls)
            gained = jnp.take_along_axis(jax.nn.log_softmax(logits), following[:, None], 1)[:, 0]
            following = jnp.where(done, PAD, following)
            score = score + jnp.where(done, 0.0, gained)
            done = done | (following == END)
            return (ids.at[:, position + 1].set(following), done, score, caches), None

        ids = jnp.full((b, self.text_length), PAD).at[:, 0].set(start)
        carry = (ids, jnp.zeros((b,), bool), jnp.zeros((b,)), caches)
        (ids, _, score, _), _ = jax.lax.scan(body, carry, jnp.arange(self.text_length - 1))
        return ids, score


def token_nll(logits: Any, targets: Int[Array, "b l"]) -> Float[Array, "b l"]:
    """Negative log-likelihood in nats of each target under logits [b, l, v]."""
    picked = jnp.take_along_axis(logits, targets[..., None], -1)[..., 0]
    return jax.nn.logsumexp(logits, -1) - picked
