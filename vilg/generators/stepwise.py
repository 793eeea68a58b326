"""Sampling of a diffusion generator, one evaluation of the denoiser after another.

The file is separate from training (diffusion.py). The outer loop runs over the experts and the
inner loop over the evaluations of one expert, so that a sampler can hold one expert's parameters at
a time. The numbers of each evaluation are rows of arrays that are computed before compilation, so
that one compiled program serves every setting."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from vilg.config import require
from vilg.generators.denoising import DenoisingNetwork
from vilg.generators.guidance import empty_prompt, with_options
from vilg.generators.mixture import SamplingSchedule
from vilg.processes.base import DenoisingControls
from vilg.processes.splits import expert_runs
from vilg.types import Params, UserError


@dataclasses.dataclass(frozen=True)
class StepwiseSampling(DenoisingNetwork):
    """A DenoisingNetwork that samples. Implements Generator and Stepwise."""

    controls_type: ClassVar[type] = DenoisingControls

    def controls(self, options: Mapping[str, object]) -> DenoisingControls:
        """The sampler's options as DenoisingControls.

        Errors: UserError for an option that DenoisingControls does not have, or for guidance of a
        model that was trained without dropping texts."""
        controls = with_options(
            DenoisingControls(guidance=3.0 if self.drop_text else 1.0),
            options,
            "a diffusion generator",
        )
        _ = self.process.sampling_plan(controls)  # refuses controls that the process cannot sample
        can_guide = self.drop_text > 0 or controls.guidance == 1
        require(
            can_guide,
            "guidance",
            controls.guidance,
            "needs a model trained with generator.drop_text above 0; give 1",
        )
        return controls

    def sampling_schedule(self, controls: DenoisingControls) -> SamplingSchedule:
        """The process's sampling plan, and its runs of evaluations by the experts that own their
        times in training.

        Errors: UserError where only one expert was trained, and the plan needs other experts."""
        plan = self.process.sampling_plan(controls)
        runs = expert_runs(plan.times, self.edges)
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
        return SamplingSchedule(plan.times, {**plan.rows, **weights, "t": plan.times}, tuple(runs))

    def begin(
        self,
        params: Params,
        inputs: Mapping[str, Array],
        keys: Array,
        controls: DenoisingControls,
        grid: tuple[int, int] | None = None,
    ) -> dict[str, object]:
        """The state before the first evaluation.

        It starts from noise on `grid` (the codec's grid by default), or from "init" corrupted to
        controls.first. With guidance each prompt has its negative prompt (the empty prompt by
        default) beside it."""
        text = inputs["text"]
        prompts = text
        if controls.guidance != 1:
            prompts = jnp.concatenate([text, inputs.get("negative", empty_prompt(text))])
        states, pooled = self.encode_text(params, prompts)
        painting = {k: inputs[k] for k in ("init", "mask") if k in inputs}
        channels = () if self.space == "ids" else (self.latent_channels,)
        shape = (*(grid or self.grid), *channels)
        plan = self.process.sampling_plan(controls)
        start = self.process.start(keys, shape, plan, painting.get("init"))
        return {"states": states, "pooled": pooled, "painting": painting, "process": start}

    def advance(
        self, weights: Params, state: Any, row: Any, index: Array, keys: Array
    ) -> dict[str, Any]:
        """The state after an evaluation. `row` holds all settings of the controls, so that one
        compiled program serves every setting."""
        process, painting = self.process, state["painting"]
        noisy = process.noisy(state["process"])
        b = noisy.shape[0]
        guided = state["states"].shape[0] == 2 * b
        both = jnp.concatenate([noisy, noisy]) if guided else noisy
        output = self.denoise(
            weights, both, jnp.full((both.shape[0],), row["t"]), state["states"], state["pooled"]
        )
        if guided:
            output = process.guide(output[:b], output[b:], row["guidance"], row["rescale"])
        clean = process.clean(output, noisy, jnp.full((b,), row["t"]))
        if "mask" in painting:
            mask = painting["mask"]
            mask = mask.reshape(*mask.shape, *(1,) * (clean.ndim - 3))
            clean = jnp.where(mask > 0, clean, process.as_prediction(painting["init"]))
        return {**state, "process": process.advance(state["process"], clean, row, keys, index)}

    def estimate(self, state: Any) -> tuple[Array, Array]:
        """The codes as they are estimated at this moment of sampling, and which positions [b y x]
        are known yet."""
        return self.process.estimate(state["process"])

    def finish(self, state: Any) -> Any:
        """The codes."""
        return self.process.result(state["process"])

    def sample(
        self, params: Params, text: Int[Array, "b m"], keys: Array, controls: DenoisingControls
    ) -> Any:
        """Codes of one image for each prompt in one program, with a loop over experts outside and a
        loop over evaluations inside."""
        schedule = self.sampling_schedule(controls)
        state = self.begin(params, {"text": text}, keys, controls)
        for expert, first, last in schedule.runs:
            weights = self.expert_params(params, expert)
            rows = {k: jnp.asarray(v[first:last], jnp.float32) for k, v in schedule.rows.items()}

            def step(state: Any, item: Any, weights: Any = weights) -> tuple[Any, None]:
                row, index = item
                return self.advance(weights, state, row, index, keys), None

            state, _ = jax.lax.scan(step, state, (rows, jnp.arange(first, last)))
        return self.finish(state)
