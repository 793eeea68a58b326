"""An autoregressive generator with random parameters, for benchmarks."""

from typing import Any

import jax

from vilg.generators.autoregressive import Autoregressive
from vilg.program import axes_of, unbox
from vilg.types import Params

TEXT_VOCABULARY, IMAGE_VOCABULARY = 512, 1024


def random_generator(
    width: int, layers: int, heads: int, text: int, grid: tuple[int, int], **options: Any
) -> tuple[Autoregressive, Params, Any]:
    """(generator, its parameters, the pytree of their logical axes)."""
    generator = Autoregressive(
        text_length=text,
        grid=grid,
        text_vocabulary=TEXT_VOCABULARY,
        image_vocabulary=IMAGE_VOCABULARY,
        width=width,
        layers=layers,
        heads=heads,
        **options,
    )
    boxed = jax.eval_shape(generator.init, jax.random.key(0))
    params = jax.jit(lambda: unbox(generator.init(jax.random.key(0))))()
    return generator, params, axes_of(boxed)
