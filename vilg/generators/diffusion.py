"""ERNIE-ViLG 2.0: a diffusion generator whose time is shared out among denoising experts (arXiv
2210.15257; PAPERS 1).

    text ids --text encoder--> states [b m d], pooled [b d] codes --process.corrupt at t--> noisy
    --denoiser(t, states)--> output --process.loss--> per position [b y x]

What the noise does to codes is the process's (Gaussian on latents, absorbing mask on ids), how the
network looks the denoiser's, which expert owns which t the split's; this file knows none of them by
name. With n experts the denoiser's parameters have a leading axis "expert"; a batch is n equal
slices of rows, each trained at times of its own expert, so no weight is ever gathered by a row's t.
Sampling runs through the experts outside and through the evaluations inside; evaluations of one
expert need only its parameters."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from vilg.config import build, build_part, lookup, require
from vilg.generators.guidance import empty_prompt, with_options
from vilg.nn.denoisers import DENOISERS, for_sampling
from vilg.nn.text_encoder import TextEncoderConfig
from vilg.parallel.axes import is_box, named
from vilg.parallel.constrain import constrain, map_experts
from vilg.processes import PROCESSES, build_process
from vilg.processes.base import DenoisingControls
from vilg.processes.splits import SPLITS, expert_of, group
from vilg.types import Batch, Metrics, Params, UserError

LEVELS = 8  # times at which `agreement` looks


@dataclasses.dataclass(frozen=True)
class Knowledge:
    """Weights of what data.knowledge marks (PAPERS 1.6, PAPERS 1.7), in training only; 0 is the
    plain loss, bit for bit.
    """

    attention_weight: float = 0.0  # w_a; paper 0.01
    attention_mode: Literal["prob", "logit"] = "prob"  # what is scaled: unknown in the paper
    region_weight: float = 0.0  # w_l; paper 0.1
    region_power: float = 1.0  # 2 if the weight stands inside the norm: unknown in the paper


@dataclasses.dataclass(frozen=True)
class Experts:
    """n experts by a split of time. `only` trains one of them alone (a job an expert; `vilg
    assemble` joins them).
    """

    n: int = 1
    split: Any = dataclasses.field(default_factory=lambda: {"name": "uniform"})
    only: int = dataclasses.field(default=-1, metadata={"signed": True})
    # whether the text encoder goes on learning when there are several experts: unknown in the paper
    train_text: bool = False

    def __post_init__(self) -> None:
        require(self.n >= 1, "generator.experts.n", self.n, "must be at least 1")
        fits = -1 <= self.only < self.n
        require(
            fits,
            "generator.experts.only",
            self.only,
            f"must be -1 (all) or an expert from 0 to {self.n - 1}",
        )

    @property
    def stacked(self) -> bool:
        """Whether parameters have an axis of experts."""
        return self.n > 1 and self.only < 0


@dataclasses.dataclass(frozen=True, eq=False)
class Course:
    """A process's plan for several experts: `times` [k] and `rows` of arrays [k, ...] in float64,
    and `runs` of (expert, first, last) evaluations, first to last - 1."""

    times: np.ndarray
    rows: Mapping[str, np.ndarray]
    runs: tuple[tuple[int, int, int], ...]


@dataclasses.dataclass(frozen=True)
class Diffusion:
    """The generator: fields are the config. Implements Trainable, Generator, Stepwise, Growing and
    Ranker.
    """

    image_vocabulary: int  # given by the codec
    grid: tuple[int, int]  # given by the codec
    code_width: int  # given by the codec
    latent_channels: int  # given by the codec
    text_vocabulary: int  # given by data.text
    text_length: int  # given by data.text
    process: Any = dataclasses.field(default_factory=lambda: {"name": "gaussian"})
    denoiser: Any = dataclasses.field(default_factory=lambda: {"name": "dit"})
    text: Any = dataclasses.field(default_factory=dict)
    experts: Any = dataclasses.field(default_factory=dict)
    knowledge: Any = dataclasses.field(default_factory=dict)
    drop_text: float = (
        0.1  # share of rows whose text becomes the empty prompt, for classifier-free guidance
    )

    PARTS: ClassVar[
        Mapping[str, Any]
    ] = {  # the classes of the sections, or the tables of those that they name
        "process": PROCESSES,
        "denoiser": DENOISERS,
        "text": TextEncoderConfig,
        "experts": Experts,
        "knowledge": Knowledge,
    }
    batch_field: ClassVar[str] = "generator.experts.n"
    grows_in: ClassVar[tuple[str, ...]] = (
        "experts",
        "knowledge",
        "drop_text",
    )  # in what a run may differ from the one that it starts from

    def __post_init__(self) -> None:
        object.__setattr__(self, "process", build_process(self.process, self.image_vocabulary))
        for name, kind in self.PARTS.items():
            object.__setattr__(
                self, name, build_part(kind, getattr(self, name), f"generator.{name}")
            )
        require(
            0 <= self.drop_text < 1, "generator.drop_text", self.drop_text, "must lie in [0, 1)"
        )
        _ = (
            self.edges,
            self._denoiser,
            self._text,
        )  # what does not go together is refused when the experiment is built

    # --- what the parts are -----------------------------------------------------------------------

    @property
    def space(self) -> str:
        """What the process corrupts."""
        return self.process.space

    @property
    def batch_multiple(self) -> int:
        """Every expert gets as many rows of a batch as any other."""
        return self.experts.n if self.experts.stacked else 1

    @functools.cached_property
    def edges(self) -> np.ndarray:
        """The n + 1 times between the experts' slices, from 0 to 1."""
        section, path = self.experts.split, "generator.experts.split"
        kind = lookup(SPLITS, section.get("name"), f"{path}.name")
        split = build(
            kind,
            section,
            path,
            **(
                {"experts": self.experts.n}
                if "experts" in {f.name for f in dataclasses.fields(kind)}
                else {}
            ),
        )
        require(
            split.experts == self.experts.n,
            "generator.experts.n",
            self.experts.n,
            f"this split has {split.experts} experts; give that many",
        )
        return split.edges(self.process.quantile)

    @functools.cached_property
    def _denoiser(self) -> Any:
        outputs = self.process.outputs(self.latent_channels, self.image_vocabulary)
        return self.denoiser.module(outputs, self.grid, self.knowledge.attention_mode)

    @functools.cached_property
    def _text(self) -> Any:
        return self.text.module(self.text_vocabulary, self.text_length)

    @property
    def _channels(self) -> int:
        return self.code_width if self.space == "ids" else self.latent_channels

    def init(self, key: Array) -> Params:
        """Boxed parameters: "text", "denoiser" (each leaf [n, ...] where there are several experts)
        and, for a process on ids, "codes".
        """
        keys = jax.random.split(key, 3)
        ids = jnp.zeros((1, self.text_length), jnp.int32)
        x, time, d = jnp.zeros((1, *self.grid, self._channels)), jnp.zeros((1,)), self.text.width
        denoiser = self._denoiser.init(
            keys[1], x, time, jnp.zeros((1, self.text_length, d)), jnp.zeros((1, d))
        )["params"]
        params = {
            "text": self._text.init(keys[0], ids)["params"],
            "denoiser": self._copies(denoiser),
        }
        if self.space == "ids":
            rows = named(jax.nn.initializers.normal(1.0), "codebook", "code")(
                keys[2], (self.image_vocabulary + 1, self.code_width)
            )
            params["codes"] = {"table": rows}
        return params

    def _copies(self, denoiser: Params) -> Params:
        """The denoiser's parameters, boxed or not, once for each expert."""
        if not self.experts.stacked:
            return denoiser

        def copy(x: Any) -> Any:
            one = x.value if is_box(x) else x
            value = jnp.broadcast_to(one[None], (self.experts.n, *one.shape))
            return x.replace(value=value, names=("expert", *x.names)) if is_box(x) else value

        return jax.tree.map(copy, denoiser, is_leaf=is_box)

    def grow(self, params: Params) -> Params:
        """Parameters of a dense model as those of n equal experts; what already has experts comes
        back as it is.
        """
        kernels, own = (
            jax.tree.leaves(params["denoiser"]),
            jax.tree.leaves(jax.eval_shape(self.init, jax.random.key(0))["denoiser"]),
        )
        if len(kernels) != len(own) or all(
            a.ndim == b.ndim for a, b in zip(kernels, own, strict=True)
        ):
            return params
        return {**params, "denoiser": self._copies(params["denoiser"])}

    def unrolled(self, params: Params) -> Params:
        """Parameters, or their gradients, as the same generator has them with scan=False."""
        unroll = (
            jax.vmap(self.denoiser.unrolled) if self.experts.stacked else self.denoiser.unrolled
        )
        return {**params, "denoiser": unroll(params["denoiser"])}

    def labels(self, params: Params) -> Any:
        """ "frozen" for the text encoder (and the table of codes) once there are experts,
        "generator" for the denoiser; None before.
        """
        if self.experts.n == 1 or self.experts.train_text:
            return None
        return {
            k: jax.tree.map(lambda _, k=k: "generator" if k == "denoiser" else "frozen", v)
            for k, v in params.items()
        }

    # --- training ---------------------------------------------------------------------------------

    def times(self, key: Array, b: int) -> Float[Array, " b"]:
        """Training times of a batch: n equal runs of rows, the k-th within expert k's slice."""
        slices = range(self.experts.n) if self.experts.only < 0 else (self.experts.only,)
        keys, rows = jax.random.split(key, len(slices)), b // len(slices)
        edges = [(float(self.edges[k]), float(self.edges[k + 1])) for k in slices]
        return jnp.concatenate(
            [self.process.draw(keys[i], rows, low, high) for i, (low, high) in enumerate(edges)]
        )

    def loss(self, params: Params, batch: Batch, key: Array, step: Array) -> tuple[Array, Metrics]:
        """Mean over positions of the process's loss at one time a row, each position times its
        region's weight.
        """
        keys, text, codes = jax.random.split(key, 3), batch["text"], batch["codes"]
        dropped = jax.random.bernoulli(keys[0], self.drop_text, (text.shape[0], 1))
        t = self.times(keys[1], text.shape[0])
        attend = self._attend(batch, dropped)
        prompt = jnp.where(dropped, empty_prompt(text), text)
        per_row = jnp.mean(
            self._per_position(params, prompt, codes, t, keys[2], attend) * self._region(batch),
            (1, 2),
        )
        loss = jnp.mean(per_row)
        return loss, self._by_expert(per_row, t)

    def _per_position(
        self, params: Params, text: Array, codes: Array, t: Array, key: Array, attend: Any = None
    ) -> Float[Array, "b y x"]:
        noisy = self.process.corrupt(codes, t, key)
        states, pooled = self.encode_text(params, text)
        output = self._denoise_slices(params, noisy, t, states, pooled, attend)
        return self.process.loss(output, codes, noisy, t)

    def _by_expert(self, per_row: Float[Array, " b"], t: Float[Array, " b"]) -> Metrics:
        """Where there are several, each expert's loss and its share of the rows (the histogram of
        utilisation).
        """
        n = self.experts.n
        if n == 1:
            return {}
        mine = jax.nn.one_hot(expert_of(t, self.edges), n)
        shares = jnp.mean(mine, 0)
        losses = per_row @ mine / jnp.maximum(jnp.sum(mine, 0), 1)
        return {
            f"expert_{k}/{name}": v[k]
            for k in range(n)
            for name, v in (("loss", losses), ("share", shares))
        }

    def _attend(self, batch: Batch, dropped: Array) -> Any:
        """W^a [b m], 1 + w_a on key words (ERNIE-ViLG 2.0, eqs. 8-9); None where nothing is marked
        or the weight is 0.
        """
        if "key" not in batch or not self.knowledge.attention_weight:
            return None
        return 1 + self.knowledge.attention_weight * (batch["key"] & ~dropped).astype(jnp.float32)

    def _region(self, batch: Batch) -> Any:
        """W^l [b y x], 1 + w_l in the regions (eqs. 10-11)."""
        if "region" not in batch or not self.knowledge.region_weight:
            return 1.0
        return (
            1 + self.knowledge.region_weight * batch["region"].astype(jnp.float32)
        ) ** self.knowledge.region_power

    def encode_text(
        self, params: Params, text: Int[Array, "b m"]
    ) -> tuple[Float[Array, "b m d"], Float[Array, "b d"]]:
        """(states, pooled) of text ids."""
        return self._text.apply({"params": params["text"]}, text)

    def _denoise(
        self,
        weights: Params,
        noisy: Array,
        t: Float[Array, " b"],
        states: Array,
        pooled: Array,
        attend: Any = None,
    ) -> Array:
        """One expert's output."""
        x = weights["codes"]["table"][noisy] if self.space == "ids" else noisy
        x = constrain(x, "batch", "rows", "columns", None)
        return self._denoiser.apply(
            {"params": weights["denoiser"]}, x, 1000.0 * t, states, pooled, attend
        )

    def _denoise_slices(
        self, params: Params, noisy: Array, t: Array, states: Array, pooled: Array, attend: Any
    ) -> Array:
        """Every expert's output on its own slice of the rows, back in their order."""
        shared = {k: v for k, v in params.items() if k == "codes"}
        if not self.experts.stacked:
            return self._denoise(
                shared | {"denoiser": params["denoiser"]}, noisy, t, states, pooled, attend
            )
        n = self.experts.n

        def split(x: Array) -> Array:
            return constrain(
                x.reshape(n, x.shape[0] // n, *x.shape[1:]),
                "expert",
                "expert_batch",
                *(None,) * (x.ndim - 1),
            )

        rows = jax.tree.map(split, (noisy, t, states, pooled, attend))
        tables = jax.tree.map(lambda x: jnp.broadcast_to(x, (n, *x.shape)), shared)

        def one(item: Any) -> Array:
            denoiser, table, part = item
            return self._denoise(table | {"denoiser": denoiser}, *part)

        output = map_experts(one, (params["denoiser"], tables, rows))
        return output.reshape(noisy.shape[0], *output.shape[2:])

    # --- sampling ---------------------------------------------------------------------------------

    def controls(self, given: Mapping[str, Any]) -> DenoisingControls:
        """The sampler's options. Errors: UserError for one that it does not have, or for guidance
        that training did not prepare.
        """
        controls = with_options(
            DenoisingControls(guidance=3.0 if self.drop_text else 1.0),
            given,
            "a diffusion generator",
        )
        _ = self.process.plan(controls)
        trained = self.drop_text > 0 or controls.guidance == 1
        require(
            trained,
            "guidance",
            controls.guidance,
            "needs a model trained with generator.drop_text above 0; give 1",
        )
        return controls

    def plan(self, controls: DenoisingControls) -> Course:
        """The process's plan and its runs, by the same routing as in training.

        Errors: UserError where only one expert was trained, and the plan asks for others.
        """
        plan = self.process.plan(controls)
        runs = group(plan.times, self.edges)
        if self.experts.only >= 0 and {k for k, _, _ in runs} != {self.experts.only}:
            raise UserError(
                f"generator.experts.only={self.experts.only}: this run trained one of"
                f" {self.experts.n} experts, and sampling needs all; join the runs with `vilg"
                " assemble`"
            )
        weights = {
            name: np.full(len(plan.times), getattr(controls, name))
            for name in ("guidance", "rescale")
        }
        return Course(plan.times, {**plan.rows, **weights, "t": plan.times}, tuple(runs))

    def shared(self, params: Params) -> Params:
        """What sampling needs before the first expert: the text encoder."""
        return {"text": params["text"]}

    def expert(self, params: Params, index: Any) -> Params:
        """The parameters of one expert's evaluations."""
        one = (
            jax.tree.map(lambda x: x[index], params["denoiser"])
            if self.experts.stacked
            else params["denoiser"]
        )
        return {
            "denoiser": for_sampling(one, self.denoiser.dtype),
            **({"codes": params["codes"]} if "codes" in params else {}),
        }

    def begin(
        self,
        params: Params,
        inputs: Mapping[str, Array],
        keys: Array,
        controls: DenoisingControls,
        grid: tuple[int, int] | None = None,
    ) -> dict[str, Any]:
        """The state before the first evaluation: noise on the grid (the codec's own by default), or
        "init" corrupted to controls.first; with guidance each prompt has its negative (the empty
        prompt by default) beside it."""
        text = inputs["text"]
        prompts = text
        if controls.guidance != 1:
            prompts = jnp.concatenate([text, inputs.get("negative", empty_prompt(text))])
        states, pooled = self.encode_text(params, prompts)
        kept = {k: inputs[k] for k in ("init", "mask") if k in inputs}
        shape = (*(grid or self.grid), *(() if self.space == "ids" else (self.latent_channels,)))
        start = self.process.start(keys, shape, self.process.plan(controls), kept.get("init"))
        return {"states": states, "pooled": pooled, "kept": kept, "process": start}

    def advance(
        self, weights: Params, state: Any, row: Any, index: Array, keys: Array
    ) -> dict[str, Any]:
        """The state after an evaluation. All that the controls say is in the row, so that one
        program serves every setting.
        """
        process, kept = self.process, state["kept"]
        noisy = process.noisy(state["process"])
        b = noisy.shape[0]
        guided = state["states"].shape[0] == 2 * b
        both = jnp.concatenate([noisy, noisy]) if guided else noisy
        output = self._denoise(
            weights, both, jnp.full((both.shape[0],), row["t"]), state["states"], state["pooled"]
        )
        if guided:
            output = process.guide(output[:b], output[b:], row["guidance"], row["rescale"])
        clean = process.clean(output, noisy, jnp.full((b,), row["t"]))
        if "mask" in kept:
            painted = kept["mask"].reshape(*kept["mask"].shape, *(1,) * (clean.ndim - 3))
            clean = jnp.where(painted > 0, clean, process.certain(kept["init"]))
        return {**state, "process": process.advance(state["process"], clean, row, keys, index)}

    def finish(self, state: Any) -> Any:
        """The codes."""
        return self.process.result(state["process"])

    def sample(
        self, params: Params, text: Int[Array, "b m"], keys: Array, controls: DenoisingControls
    ) -> Any:
        """Codes of one image a prompt, as one program: experts outside, evaluations inside."""
        plan = self.plan(controls)
        state = self.begin(params, {"text": text}, keys, controls)
        for expert, first, last in plan.runs:
            weights = self.expert(params, expert)
            rows = {k: jnp.asarray(v[first:last], jnp.float32) for k, v in plan.rows.items()}

            def step(state: Any, item: Any, weights: Any = weights) -> tuple[Any, None]:
                row, index = item
                return self.advance(weights, state, row, index, keys), None

            state, _ = jax.lax.scan(step, state, (rows, jnp.arange(first, last)))
        return self.finish(state)

    # --- what a text is worth ---------------------------------------------------------------------

    def errors_at(
        self, params: Params, text: Int[Array, "b m"], codes: Array, t: Float[Array, ""]
    ) -> Float[Array, " b"]:
        """How wrong each row's prediction of its codes is at one time (Process.error)."""
        return self._at(self.process.error, params, text, codes, t)

    def _at(
        self,
        measure: Callable,
        params: Params,
        text: Int[Array, "b m"],
        codes: Array,
        t: Float[Array, ""],
    ) -> Float[Array, " b"]:
        """`measure` of each row at one time, under the expert that owns it. The noise belongs to
        the row's codes and the time, so that texts can be compared, wherever in a batch they
        stand."""
        keys = jax.vmap(
            lambda row: jax.random.fold_in(jax.random.key(0), jnp.sum(row * 1024).astype(jnp.int32))
        )(codes)
        keys = jax.vmap(jax.random.fold_in, (0, None))(keys, (t * 1e6).astype(jnp.int32))
        noisy = jax.vmap(lambda row, key: self.process.corrupt(row[None], t[None], key)[0])(
            codes, keys
        )
        states, pooled = self.encode_text(params, text)
        times = jnp.full((text.shape[0],), t)
        output = self._denoise(
            self.expert(params, expert_of(t, self.edges)), noisy, times, states, pooled
        )
        return jnp.mean(measure(output, codes, noisy, times), (1, 2))

    def levels(self, n: int) -> Float[Array, " n"]:
        """n increasing times, one from each of n equal shares of the training times (of the one
        expert's slice, where one is trained alone).
        """
        low, high = (
            (0.0, 1.0)
            if self.experts.only < 0
            else self.edges[self.experts.only : self.experts.only + 2]
        )
        return jnp.sort(self.process.draw(jax.random.key(0), n, float(low), float(high)))

    def agreement(self, params: Params, text: Int[Array, "b m"], codes: Any) -> Float[Array, " b"]:
        """Minus the mean training loss at LEVELS times."""

        def one(total: Array, t: Array) -> tuple[Array, None]:
            return total + self._at(self.process.loss, params, text, codes, t), None

        total, _ = jax.lax.scan(one, jnp.zeros((text.shape[0],)), self.levels(LEVELS))
        return -total / LEVELS
