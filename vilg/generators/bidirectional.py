"""The network of ERNIE-ViLG 1.0: embeddings, one trunk for both directions, and two output heads.

The file is separate from the generator (autoregressive.py), which holds the config, the loss and
the sampling loops. This file holds the passes through the network: whole sequences for training;
for cached decoding first the source alone, then one position at a time."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from vilg.nn.embed import TokenEmbed
from vilg.nn.transformer import TrunkConfig
from vilg.nn.trunk import Trunk
from vilg.parallel.axes import named
from vilg.parallel.constrain import constrain


class BidirectionalTransformer(nn.Module):
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
        """Logits over text ids, float32."""
        return self._logits(states, self.embed.text_table.T if self.tie else self.text_head)

    def image_logits(self, states: Float[Array, "b l d"]) -> Float[Array, "b l v"]:
        """Logits over image codes, float32."""
        return self._logits(states, self.embed.image_table.T if self.tie else self.image_head)

    def _logits(self, states: Array, head: Array) -> Array:
        logits = jnp.einsum(
            "bld,dv->blv", states, head.astype(states.dtype), preferred_element_type=jnp.float32
        )
        return constrain(logits, "batch", "length", "vocab")

    def __call__(self, text: Int[Array, "b m"], codes: Int[Array, "b n"]) -> tuple[Array, Array]:
        """Logits of the image given the text and logits of the text given the image: both
        directions with teacher forcing."""
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
        """Computes `image_given_text` of all rows and `text_given_image` of every `b / e`-th row in
        one pass through the trunk, which fetches the weights of a layer once for both.

        `text` holds the texts of these e rows. In the trunk each of them comes right after the
        group of rows that it belongs to."""
        m, every = self.config.text_length, prompt.shape[0] // text.shape[0]
        images = self._stream(prompt, codes, "text_to_image")
        captions = self._stream(text, codes[::every], "image_to_text")
        x = jnp.concatenate([images.reshape(-1, every, *images.shape[1:]), captions[:, None]], 1)
        x = constrain(x.reshape(-1, *x.shape[2:]), "batch", "length", "embed")
        states = self.trunk.full(x, (("text_to_image", every), ("image_to_text", 1)))
        states = states.reshape(-1, every + 1, *states.shape[1:])
        image = states[:, :every, m - 1 : -1].reshape(*codes.shape, -1)
        return self.image_logits(image), self.text_logits(states[:, every, : m - 1])

    def read_text(self, text: Int[Array, "b m"]) -> tuple[Float[Array, "b v"], PyTree]:
        """The logits of the first code, and the caches that hold the text."""
        x = self.embed.text(text, "text_to_image").astype(self.config.dtype)
        states, caches = self.trunk.source(x, "text_to_image")
        return self.image_logits(states[:, -1:])[:, 0], caches

    def read_image(self, codes: Int[Array, "b n"]) -> Any:
        """The caches that hold the image."""
        x = self.embed.image(codes, "image_to_text").astype(self.config.dtype)
        return self.trunk.source(x, "image_to_text")[1]

    def next_code(
        self, codes: Int[Array, "b n"], caches: Any, position: Array
    ) -> tuple[Float[Array, "b v"], PyTree]:
        """Logits of the code after the code at raster index `position`, and the caches with that
        position added. Entries of `codes` after `position` are not read."""
        x = self.embed.image(codes, "text_to_image", position).astype(self.config.dtype)
        states, caches = self.trunk.step(x, caches, position, "text_to_image")
        return self.image_logits(states)[:, 0], caches

    def next_text(
        self, ids: Int[Array, "b m"], caches: Any, position: Array
    ) -> tuple[Float[Array, "b v"], PyTree]:
        """Logits of the text id after the id at text position `position`, and the caches with that
        position added. Entries of `ids` after `position` are not read."""
        x = self.embed.text(ids, "image_to_text", position).astype(self.config.dtype)
        states, caches = self.trunk.step(x, caches, position, "image_to_text")
        return self.text_logits(states)[:, 0], caches
