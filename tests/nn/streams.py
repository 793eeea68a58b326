"""Random queries, keys and values over [text ; image], the geometry of a pattern variant, and the
equations of a program.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxprs_in_params

from vilg.nn.geometry import Geometry
from vilg.nn.patterns import PatternOptions, make_pattern

TEXT = 3


def arrays(grid, heads=2, size=4, batch=2, count=3, text=TEXT):
    rng = np.random.default_rng(0)
    shape = (batch, text + grid[0] * grid[1], heads, size)
    return [jnp.asarray(rng.normal(size=shape), jnp.float32) for _ in range(count)]


def geometry(variant, grid, direction, text=TEXT):
    name, row_mode, size = variant
    options = PatternOptions(row_mode=row_mode, convolution=size)
    return Geometry(make_pattern(name, options), direction, text, grid)


def quick_jit(function):
    """jax.jit without LLVM's optimisation: these tests compile far longer than they run."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})


def equations(jaxpr):
    """The equations of a program and of every program inside it."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from equations(inner)
