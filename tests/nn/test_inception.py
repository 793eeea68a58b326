"""FID's InceptionV3 against a torch module of the same names, number by number; weights of another
network are refused by name.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.oracles import oracle
from vilg.nn.inception import Inception, from_state
from vilg.types import UserError

torch, torch_inception = oracle("torch"), oracle("vilg.run.bench.torch_inception")


@pytest.fixture(scope="module")
def theirs():
    return torch_inception.random_inception()


@pytest.fixture(scope="module")
def state(theirs):
    return {k: v.numpy() for k, v in theirs.state_dict().items()}


def test_features_and_logits_agree_with_torch(theirs, state):
    images = np.random.default_rng(0).uniform(-1, 1, (2, 107, 139, 3)).astype(np.float32)
    expected = [x.numpy() for x in theirs(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))]
    assert all(0.1 < np.abs(x).mean() < 10 for x in expected)
    found = jax.jit(Inception().apply)({"params": from_state(state)}, jnp.asarray(images))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * float(np.abs(theirs).max()))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"Mixed_6c.branch7x7_2.bn.running_var": None},
            "has no Mixed_6c.branch7x7_2.bn.running_var",
        ),
        (
            {"fc.weight": np.zeros((1000, 2048), np.float32)},
            r"fc.weight has shape \(1000, 2048\), expected \(1008, 2048\)",
        ),
        ({"AuxLogits.fc.weight": np.zeros(1)}, "also holds AuxLogits.fc.weight"),
    ],
)
def test_weights_of_another_network_are_refused_by_the_first_wrong_key(change, words, state):
    wrong = {k: v for k, v in {**state, **change}.items() if v is not None}
    with pytest.raises(UserError, match=words + "; give the weights of FID's InceptionV3"):
        from_state(wrong)
