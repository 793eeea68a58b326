"""Group norms beside torch's, with gradients, and what they keep for the backward pass."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.oracles import oracle
from vilg.nn.convolution import GroupNorm
from vilg.types import UserError

torch = oracle("torch")


def arrays(dtype=np.float32):
    """A picture whose mean is not zero, what its norm is multiplied by in the loss, and parameters
    that are neither one nor zero.
    """
    rng = np.random.default_rng(0)
    x, weight = (rng.standard_normal((2, 6, 5, 24)).astype(np.float32) for _ in range(2))
    params = {name: jnp.asarray(rng.standard_normal(24), jnp.float32) for name in ("scale", "bias")}
    return jnp.asarray(3 * x + 5, dtype), weight, {"params": params}


def test_values_and_gradients_are_torchs():
    x, weight, params = arrays()
    norm = GroupNorm(8, epsilon=1e-5)
    value = norm.apply(params, x)
    gradients = jax.grad(lambda p, x: jnp.sum(norm.apply(p, x) * weight), (0, 1))(params, x)

    theirs = torch.nn.GroupNorm(8, 24, eps=1e-5)
    theirs.load_state_dict(
        {
            new: torch.tensor(np.asarray(params["params"][old]))
            for new, old in (("weight", "scale"), ("bias", "bias"))
        }
    )
    leaf = torch.tensor(np.asarray(x)).requires_grad_()
    out = theirs(leaf.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    (out * torch.tensor(weight)).sum().backward()
    np.testing.assert_allclose(value, out.detach(), atol=2e-5)
    np.testing.assert_allclose(gradients[1], leaf.grad, atol=2e-5)
    np.testing.assert_allclose(
        gradients[0]["params"]["scale"], theirs.weight.grad, rtol=1e-5, atol=1e-4
    )
    np.testing.assert_allclose(
        gradients[0]["params"]["bias"], theirs.bias.grad, rtol=1e-5, atol=1e-5
    )


def test_half_precision_rounds_the_result_only():
    x, _, params = arrays(jnp.bfloat16)
    exact = GroupNorm(8).apply(params, x.astype(jnp.float32))
    half = GroupNorm(8, jnp.bfloat16).apply(params, x)
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), exact, rtol=2**-8, atol=2e-3)


def test_the_backward_pass_keeps_the_input_in_its_own_precision_and_statistics():
    x, _, params = arrays(jnp.bfloat16)
    _, backward = jax.vjp(lambda x: GroupNorm(8, jnp.bfloat16).apply(params, x), x)
    kept = jax.tree.leaves(backward)
    assert [leaf.dtype for leaf in kept if leaf.size == x.size] == [jnp.bfloat16]
    assert (
        sum(leaf.size for leaf in kept if leaf.size != x.size) < x.size / 2
    )  # statistics of 2 pictures, parameters and membership


def test_groups_that_do_not_divide_the_channels_are_one_sentence():
    with pytest.raises(UserError, match=r"groups=7: must divide the 24 channels"):
        GroupNorm(7).init(jax.random.key(0), jnp.zeros((1, 2, 2, 24)))
