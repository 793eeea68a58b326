"""FLOPs of a traced function: the matrix products and convolutions of its jaxpr, with loops
multiplied out. These are the FLOPs that a model needs.

planning/costs.py counts what a compiler made of a program, with recomputation and padding."""

import math
from collections.abc import Callable
from typing import Any, cast

import jax
from jax.core import ShapedArray
from jax.extend import core


def traced_flops(function: Callable, *arguments: object) -> float:
    """FLOPs (two for each multiply-add) of a function of these arguments, which may be abstract."""
    return _count(jax.make_jaxpr(function)(*arguments).jaxpr)


def _count(jaxpr: Any) -> float:
    total = 0.0
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        if name == "dot_general":
            (contracting, _), _ = params["dimension_numbers"]
            left, out = _shape(equation.invars[0]), _shape(equation.outvars[0])
            total += 2.0 * math.prod(out) * math.prod(left[d] for d in contracting)
        elif name == "conv_general_dilated":
            numbers, kernel = params["dimension_numbers"], _shape(equation.invars[1])
            per_output = math.prod(kernel) / kernel[numbers.rhs_spec[0]]
            total += 2.0 * math.prod(_shape(equation.outvars[0])) * per_output
        elif name == "cond":
            total += max(map(_count, core.jaxprs_in_params(params)))  # the dearest branch
        else:
            times = params.get("length", 1) if name == "scan" else 1
            total += times * sum(map(_count, core.jaxprs_in_params(params)))
    return total


def _shape(variable: core.Var | core.Literal) -> tuple[int, ...]:
    return cast(ShapedArray, variable.aval).shape
