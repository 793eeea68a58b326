"""ERNIE-ViLG 1.0: one transformer with shared parameters, a prefix language model in both
directions (arXiv 2112.15283; PAPERS 2).

In the direction text_to_image the text is the source (attention within it is bidirectional) and the
image codes are the target: the state of the last text position predicts the first code, and the
state at code k predicts code k + 1. In the direction image_to_text the image is the source and the
text is the target; text position 0 holds the start id that names the language. The text always
comes first in memory: the direction only selects the masks (vilg/nn/geometry.py)."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from vilg.config import lookup, require
from vilg.generators.bidirectional import BidirectionalTransformer
from vilg.generators.guidance import Controls, choose, empty_prompt, guide, with_options
from vilg.nn import code_tables
from vilg.nn.attention import check_implementation
from vilg.nn.code_tables import CodeTables
from vilg.nn.dense import DTYPES
from vilg.nn.geometry import Geometry
from vilg.nn.layer_patterns import schedule
from vilg.nn.patterns import PatternOptions, make_pattern
from vilg.nn.remat import REMAT
from vilg.nn.transformer import TrunkConfig
from vilg.nn.trunk import unrolled
from vilg.types import END, PAD, Batch, Metrics, Model, Params


@dataclasses.dataclass(frozen=True)
class Autoregressive(Model):
    """The generator; its fields are the config. Implements Trainable, Generator, Captioner and
    Likelihood."""

    role: ClassVar[str] = "generator"
    batch_field: ClassVar[str] = "generator.caption_every"
    controls_type: ClassVar[type] = Controls
    defaults: ClassVar[Controls] = Controls(guidance=2.0, temperature=0.8)

    image_vocabulary: int  # given by the codec
    grid: tuple[int, int]  # given by the codec
    text_vocabulary: int  # given by data.text
    text_length: int  # given by data.text
    code_width: int = 0  # given by the codec: the length of its code vectors
    width: int = 128  # width of a position's state
    layers: int = 4  # transformer blocks
    heads: int = 4  # attention heads
    mlp_ratio: float = 4.0  # width of a block's feed-forward layer, in widths of a state
    patterns: Any = "dense"  # "dense", "ernie_vilg" (PAPERS 2.1), or one name a layer
    # earlier codes that the pattern row sees: the last ones in raster order, or those of its row
    row_mode: Literal["raster_window", "same_row"] = "raster_window"
    convolution: int = 11  # rows and columns that the pattern convolution sees
    # IMPLEMENTATIONS in vilg/nn/attention.py; "auto": by the devices that the program is for
    attention: str = "blockwise"
    qk_norm: bool = False  # RMS norm of queries and keys, each head for itself
    # base of rotary positions beside the learned ones; 0: none (the paper's scheme is unknown)
    rotary_base: float = 0.0
    tie: bool = False  # output heads share the embeddings' tables
    # embedding of a code: a learned row (the paper), or that row and a function of its code vector
    code_embedding: Literal["table", "codec"] = "table"
    embed_scale: float = 0.02  # standard deviation of the embeddings' initial values
    # earlier ids whose embeddings each text state also holds (vilg/nn/embed.py; the paper: 0)
    text_window: int = 0
    # radius of the square whose earlier codes each image state also holds (the paper: 0)
    image_window: int = 0
    # type of activations; parameters and the optimizer's moments are float32
    dtype: Literal["float32", "bfloat16"] = "float32"
    # what a block keeps for its backward pass: a name in REMAT (vilg/nn/remat.py)
    remat: str = "none"
    # blocks as one scanned loop: quick to compile; unrolled ones run faster on a CPU
    scan: bool = True
    text_to_image_weight: float = 1.0  # PAPERS 2.4: both directions, equal weight
    image_to_text_weight: float = 1.0  # weight of the loss of texts given images
    # one pass through the layers for each direction, or one for both (fetches the weights once)
    directions: Literal["apart", "together"] = "apart"
    caption_every: int = 1  # one row of this many in a batch also trains image_to_text
    # share of rows whose text becomes the empty prompt, for classifier-free guidance
    drop_text: float = 0.1

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
            "must be 0, or above 1 with heads whose width is a multiple of 4",
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
        has_vectors = self.code_embedding == "table" or self.code_width > 0
        require(
            has_vectors,
            "generator.code_embedding",
            self.code_embedding,
            "needs a codec with code vectors; give 'table'",
        )
        _ = self.network  # checks the patterns when the experiment is built

    @property
    def batch_multiple(self) -> int:
        """The number of rows in a group of which one row also trains captions."""
        return self.caption_every

    def controls(self, options: Mapping[str, object]) -> Controls:
        """The sampler's options as Controls. Errors: UserError for an option that Controls does not
        have."""
        return with_options(self.defaults, options, "an autoregressive generator")

    @property
    def network(self) -> BidirectionalTransformer:
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
        return BidirectionalTransformer(
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
        params = self.network.init(key, text, codes)["params"]
        if self.code_embedding == "codec":
            params = {**params, "codes": self._tables.init(jax.random.fold_in(key, 1))["params"]}
        return params

    def labels(self, params: Params) -> Any:
        """The label "frozen" for the codec's code vectors and "generator" for every other
        parameter; None for a model without frozen parameters."""
        if self.code_embedding == "table":
            return None
        labels = jax.tree.map(lambda _: "generator", params)
        return {**labels, "codes": {**labels["codes"], "vectors": "frozen"}}

    @property
    def space(self) -> str:
        """ "ids": the generator generates the ids of a tokenizer."""
        return "ids"

    @property
    def inputs(self) -> tuple[str, ...]:
        """Pictures and texts."""
        return ("image", "text")

    @property
    def uses_code_vectors(self) -> bool:
        """Whether the embeddings of codes are computed from the codec's code vectors."""
        return self.code_embedding == "codec"

    def with_code_vectors(self, params: Params, vectors: Float[Array, "v d"]) -> Params:
        """The parameters with the codec's code vectors added, if the model uses code vectors."""
        if self.code_embedding == "table":
            return params
        return {**params, "codes": code_tables.adopt(params["codes"], vectors)}

    @property
    def _tables(self) -> CodeTables:
        return CodeTables(self.image_vocabulary, self.code_width, self.width, head=not self.tie)

    def plain(self, params: Params) -> Params:
        """The parameters of `network`: the rows that are computed from code vectors are added to
        the tables of the embedding and of the output head."""
        if self.code_embedding == "table":
            return params
        rows: Any = self._tables.apply({"params": params["codes"]})
        embeddings, head = rows
        plain = {k: v for k, v in params.items() if k != "codes"}
        image_table = plain["embed"]["image_table"] + embeddings
        plain["embed"] = {**plain["embed"], "image_table": image_table}
        return plain if head is None else plain | {"image_head": plain["image_head"] + head.T}

    def loss(self, params: Params, batch: Batch, key: Array, step: Array) -> tuple[Array, Metrics]:
        """The weighted sum of both directions' mean token NLL in nats (PAPERS 2.4). Only tokens of
        the target count, and padding does not."""
        params, text, codes = self.plain(params), batch["text"], batch["codes"]
        codes = codes.reshape(codes.shape[0], -1)
        dropped = jax.random.bernoulli(key, self.drop_text, (text.shape[0], 1))
        prompt = jnp.where(dropped, empty_prompt(text), text)
        text = text[:: self.caption_every]
        if self.directions == "together":
            image_logits, text_logits = self.network.apply(
                {"params": params}, prompt, text, codes, method="together"
            )
        else:
            image_logits = self.network.apply(
                {"params": params}, prompt, codes, method="image_given_text"
            )
            text_logits = self.network.apply(
                {"params": params}, text, codes[:: self.caption_every], method="text_given_image"
            )
        image_loss = jnp.mean(token_nll(image_logits, codes))
        targets = text[:, 1:]
        is_token = (targets != PAD).astype(jnp.float32)
        tokens = jnp.maximum(jnp.sum(is_token), 1)
        text_loss = jnp.sum(token_nll(text_logits, targets) * is_token) / tokens
        loss = self.text_to_image_weight * image_loss + self.image_to_text_weight * text_loss
        return loss, {"text_to_image": image_loss, "image_to_text": text_loss}

    def model_flops(self, batch: int) -> float:
        """FLOPs of an update's forward and backward pass on `batch` rows, without recomputation.

        They are 6 x parameters of matrix products (without the tables of embeddings, with the
        output heads) x positions, and for attention 12 d x the pairs of positions that each layer's
        mask shows."""
        model, n = self.network, self.grid[0] * self.grid[1]
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
        logits = self.network.apply({"params": params}, text, codes, method="image_given_text")
        return -jnp.sum(token_nll(logits, codes), -1)

    def _decoder(self, params: Params) -> tuple[BidirectionalTransformer, Params]:
        """The model with unrolled layers, and its variables."""
        params = self.plain(params)
        if not self.scan:
            return self.network, {"params": params}
        return dataclasses.replace(self, scan=False).network, {"params": self.unrolled(params)}

    def unrolled(self, params: Params) -> Params:
        """The parameters, or their gradients, in the layout of this generator with scan=False."""
        return {**params, "trunk": unrolled(params["trunk"])}

    def sample(
        self, params: Params, text: Int[Array, "b m"], keys: Array, controls: Controls
    ) -> Int[Array, "b y x"]:
        """Codes of one image for each prompt, by cached decoding. With guidance the empty prompt is
        decoded beside each prompt."""
        (model, variables), b = self._decoder(params), text.shape[0]
        guided = controls.guidance != 1
        prompts = jnp.concatenate([text, empty_prompt(text)]) if guided else text

        def pick(logits: Array, position: Array) -> Array:
            if guided:
                logits = guide(logits[:b], logits[b:], controls.guidance)
            return choose(logits, keys, position, controls)

        def body(carry: PyTree, position: Array) -> tuple[PyTree, None]:
            codes, caches = carry
            both = jnp.concatenate([codes, codes]) if guided else codes
            logits, caches = model.apply(variables, both, caches, position, method="next_code")
            return (codes.at[:, position + 1].set(pick(logits, position + 1)), caches), None

        logits, caches = model.apply(variables, prompts, method="read_text")
        n = self.grid[0] * self.grid[1]
        codes = jnp.zeros((b, n), jnp.int32).at[:, 0].set(pick(logits, jnp.int32(0)))
        (codes, _), _ = jax.lax.scan(body, (codes, caches), jnp.arange(n - 1))
        return codes.reshape(b, *self.grid)

    def code_order(self) -> Int[np.ndarray, "y x"]:
        """The place of each code in the order of sampling: row by row."""
        return np.arange(self.grid[0] * self.grid[1]).reshape(self.grid)

    def caption(
        self,
        params: Params,
        codes: Int[Array, "b y x"],
        start: Int[Array, " b"],
        keys: Array,
        controls: Controls,
    ) -> tuple[Int[Array, "b m"], Float[Array, " b"]]:
        """Text ids that begin with `start`, PAD after END, and the log-likelihood of each caption
        in nats under the model."""
        (model, variables), b = self._decoder(params), codes.shape[0]
        caches = model.apply(variables, codes.reshape(b, -1), method="read_image")
        forbid_pad = jnp.zeros((self.text_vocabulary,)).at[jnp.array([PAD])].set(-jnp.inf)

        def body(carry: PyTree, position: Array) -> tuple[PyTree, None]:
            ids, done, score, caches = carry
            logits, caches = model.apply(variables, ids, caches, position, method="next_text")
            logits = logits + forbid_pad
            chosen = choose(logits, keys, position, controls)
            log_p = jnp.take_along_axis(jax.nn.log_softmax(logits), chosen[:, None], 1)[:, 0]
            chosen = jnp.where(done, PAD, chosen)
            score = score + jnp.where(done, 0.0, log_p)
            done = done | (chosen == END)
            return (ids.at[:, position + 1].set(chosen), done, score, caches), None

        ids = jnp.full((b, self.text_length), PAD).at[:, 0].set(start)
        carry = (ids, jnp.zeros((b,), bool), jnp.zeros((b,)), caches)
        (ids, _, score, _), _ = jax.lax.scan(body, carry, jnp.arange(self.text_length - 1))
        return ids, score


def token_nll(logits: Any, targets: Int[Array, "b l"]) -> Float[Array, "b l"]:
    """Negative log-likelihood in nats of each target under logits [b, l, v]."""
    target_logits = jnp.take_along_axis(logits, targets[..., None], -1)[..., 0]
    return jax.nn.logsumexp(logits, -1) - target_logits
