"""The network of a diffusion generator: a text encoder and the denoisers of its experts.

    text ids [b m] --text encoder--> states [b m d], pooled [b d]
    noisy codes, t, states, pooled --denoiser of the expert that owns t--> output [b y x o]

The process defines the noise of the codes (Gaussian on latents, an absorbing mask on ids), the
denoiser the form of the network, and the split the expert of each time. This file uses all three
through their interfaces, without a branch on their names."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from vilg.config import build_part, require
from vilg.generators.mixture import Experts
from vilg.nn.denoisers import DENOISERS, for_sampling
from vilg.nn.text_encoder import TextEncoderConfig
from vilg.parallel.axes import named
from vilg.parallel.constrain import constrain
from vilg.processes import PROCESSES, build_process
from vilg.types import Model, Params, UserError


@dataclasses.dataclass(frozen=True)
class Knowledge:
    """Weights of the key words and regions that data.knowledge marks (PAPERS 1.6, 1.7). They apply
    in training only; with weights of 0 the loss is the plain loss, bit for bit."""

    attention_weight: float = 0.0  # w_a; paper 0.01
    attention_mode: Literal["prob", "logit"] = "prob"  # the scaled quantity, unknown in the paper
    region_weight: float = 0.0  # w_l; paper 0.1
    region_power: float = 1.0  # 2 if the weight stands inside the norm: unknown in the paper


@dataclasses.dataclass(frozen=True)
class DenoisingNetwork(Model):
    """The config and parameters of a diffusion generator; the fields are the config."""

    image_vocabulary: int  # given by the codec
    grid: tuple[int, int]  # given by the codec
    code_width: int  # given by the codec
    latent_channels: int  # given by the codec
    text_vocabulary: int  # given by data.text
    text_length: int  # given by data.text
    # section of the noise process: "name" is one of PROCESSES
    process: Any = dataclasses.field(default_factory=lambda: {"name": "gaussian"})
    # section of the network: "name" is one of DENOISERS
    denoiser: Any = dataclasses.field(default_factory=lambda: {"name": "dit"})
    text: Any = dataclasses.field(default_factory=dict)  # section of the text encoder
    experts: Any = dataclasses.field(default_factory=dict)  # section of the denoising experts
    # section of the weights on key words and regions (PAPERS 1.6, 1.7)
    knowledge: Any = dataclasses.field(default_factory=dict)
    # share of rows whose text becomes the empty prompt, for classifier-free guidance
    drop_text: float = 0.1

    # the classes of the sections, or the tables of the classes that sections name
    PARTS: ClassVar[Mapping[str, Any]] = {
        "process": PROCESSES,
        "denoiser": DENOISERS,
        "text": TextEncoderConfig,
        "experts": Experts,
        "knowledge": Knowledge,
    }
    role: ClassVar[str] = "generator"
    batch_field: ClassVar[str] = "generator.experts.n"
    fields_free_at_start: ClassVar[tuple[str, ...]] = ("experts", "knowledge", "drop_text")

    def __post_init__(self) -> None:
        object.__setattr__(self, "process", build_process(self.process, self.image_vocabulary))
        for name, kind in self.PARTS.items():
            part = build_part(kind, getattr(self, name), f"generator.{name}")
            object.__setattr__(self, name, part)
        fits = 0 <= self.drop_text < 1
        require(fits, "generator.drop_text", self.drop_text, "must lie in [0, 1)")
        # building the parts refuses fields that do not fit together
        _ = self.edges, self._denoiser, self._text

    @property
    def inputs(self) -> tuple[str, ...]:
        """Pictures, texts and, where the data marks them, key words and regions."""
        return ("image", "text", "key", "region")

    @property
    def space(self) -> str:
        """ "ids" or "latents" of the codec: the codes that the process corrupts."""
        return self.process.space

    @property
    def batch_multiple(self) -> int:
        """The number of experts: every expert gets the same number of rows of a batch."""
        return self.experts.n if self.experts.stacked else 1

    @property
    def size_multiple(self) -> int:
        """The denoiser's patch size or down-sampling factor, which must divide the sides of a grid
        of codes."""
        return self.denoiser.factor

    @functools.cached_property
    def edges(self) -> np.ndarray:
        """The n + 1 times that bound the experts' slices, from 0 to 1."""
        return self.experts.edges(self.process.quantile)

    @functools.cached_property
    def _denoiser(self) -> nn.Module:
        outputs = self.process.output_channels(self.latent_channels, self.image_vocabulary)
        mode = self.knowledge.attention_mode
        return self.denoiser.module(outputs, self.grid, mode)

    @functools.cached_property
    def _text(self) -> nn.Module:
        return self.text.module(self.text_vocabulary, self.text_length)

    @property
    def weighs_knowledge(self) -> bool:
        """True: the loss can weight marked key words and regions."""
        return True

    def check_knowledge(self, attention: float, regions: float) -> None:
        """Errors: UserError where a weight is set although the data does not make its marks."""
        shares = {"attention": attention, "regions": regions}
        for weight, mark in (("attention_weight", "attention"), ("region_weight", "regions")):
            value = getattr(self.knowledge, weight)
            if value and not shares[mark] > 0:
                raise UserError(
                    f"generator.knowledge.{weight}={value!r}: the data marks no rows for this"
                    f" weight; give data.knowledge.{mark} a share above 0, or the weight 0"
                )

    # --- parameters -------------------------------------------------------------------------------

    def init(self, key: Array) -> Params:
        """Boxed parameters: "text", "denoiser" (each leaf is [n, ...] with several experts) and,
        for a process on ids, "codes"."""
        keys = jax.random.split(key, 3)
        ids = jnp.zeros((1, self.text_length), jnp.int32)
        channels = self.code_width if self.space == "ids" else self.latent_channels
        x, time, d = jnp.zeros((1, *self.grid, channels)), jnp.zeros((1,)), self.text.width
        states, pooled = jnp.zeros((1, self.text_length, d)), jnp.zeros((1, d))
        denoiser = self._denoiser.init(keys[1], x, time, states, pooled)["params"]
        params = {
            "text": self._text.init(keys[0], ids)["params"],
            "denoiser": self.experts.copies(denoiser),
        }
        if self.space == "ids":
            rows = named(jax.nn.initializers.normal(1.0), "codebook", "code")(
                keys[2], (self.image_vocabulary + 1, self.code_width)
            )
            params["codes"] = {"table": rows}
        return params

    def upcycle(self, params: Params) -> Params:
        """Turns the parameters of a dense model into those of n equal experts. Parameters that
        already have an axis of experts are returned unchanged."""
        expected = jax.tree.leaves(jax.eval_shape(self.init, jax.random.key(0))["denoiser"])
        leaves = jax.tree.leaves(params["denoiser"])
        has_axis = all(a.ndim == b.ndim for a, b in zip(leaves, expected, strict=False))
        if len(leaves) != len(expected) or has_axis:
            return params
        return {**params, "denoiser": self.experts.copies(params["denoiser"])}

    def unrolled(self, params: Params) -> Params:
        """The parameters, or their gradients, in the layout of this generator with scan=False."""
        unroll = self.denoiser.unrolled
        unroll = jax.vmap(unroll) if self.experts.stacked else unroll
        return {**params, "denoiser": unroll(params["denoiser"])}

    def labels(self, params: Params) -> Any:
        """With several experts: the label "frozen" for the text encoder (and the table of codes)
        and "generator" for the denoiser. With one expert, or with experts.train_text: None."""
        if self.experts.n == 1 or self.experts.train_text:
            return None

        def label(part: str) -> str:
            return "generator" if part == "denoiser" else "frozen"

        return {
            part: jax.tree.map(lambda _, part=part: label(part), tree)
            for part, tree in params.items()
        }

    def shared_params(self, params: Params) -> Params:
        """The parameters that sampling needs before the first expert: those of the text encoder."""
        return {"text": params["text"]}

    def expert_params(self, params: Params, index: object) -> Params:
        """The parameters that an evaluation of one expert needs."""
        denoiser = self.experts.select(params["denoiser"], index)
        tables = {"codes": params["codes"]} if "codes" in params else {}
        return {"denoiser": for_sampling(denoiser, self.denoiser.dtype), **tables}

    # --- passes -----------------------------------------------------------------------------------

    def encode_text(
        self, params: Params, text: Int[Array, "b m"]
    ) -> tuple[Float[Array, "b m d"], Float[Array, "b d"]]:
        """The states and the pooled state of text ids."""
        return self._text.apply({"params": params["text"]}, text)  # type: ignore[return-value]

    def denoise(
        self,
        weights: Params,
        noisy: Array,
        t: Float[Array, " b"],
        states: Array,
        pooled: Array,
        attend: Array | None = None,
    ) -> Array:
        """One expert's output for noisy codes [b y x ...] at times t. `attend` weights the
        attention to the text's positions [b m]."""
        x = weights["codes"]["table"][noisy] if self.space == "ids" else noisy
        x = constrain(x, "batch", "rows", "columns", None)
        variables = {"params": weights["denoiser"]}
        output = self._denoiser.apply(variables, x, 1000.0 * t, states, pooled, attend)
        return output  # type: ignore[return-value]

    def denoise_slices(
        self,
        params: Params,
        noisy: Array,
        t: Float[Array, " b"],
        states: Array,
        pooled: Array,
        attend: Array | None,
    ) -> Array:
        """Every expert's output for its own slice of the rows, in the order of the rows."""
        shared = {k: v for k, v in params.items() if k == "codes"}
        rows = (noisy, t, states, pooled, attend)
        return self.experts.apply_to_slices(self.denoise, params["denoiser"], shared, rows)
