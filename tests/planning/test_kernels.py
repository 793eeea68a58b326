"""Costs of Pallas kernels in a program's text: stated ones, those of splash attention, and kernels
of which nothing is known.
"""

import pytest

from vilg.planning.costs import count
from vilg.planning.hlo_parser import parse

PROGRAM = """HloModule step

ENTRY %main (blocks: s8[1,9,2], q: bf16[2,16,1152,64]) -> bf16[2,16,1152,64] {
  %blocks = s8[1,9,2]{2,1,0} parameter(0)
  %q = bf16[2,16,1152,64]{3,2,1,0} parameter(1)
  ROOT %kernel = bf16[2,16,1152,64]{3,2,1,0} custom-call(%blocks, %q, %q, %q),\
 custom_call_target="tpu_custom_call", NAMEbackend_config={CONFIG}
}
"""
PATH = (
    "jit(step)/transpose(jvp())/splash_17_of_81_blocks_of_128_in_1152"
    "/vmap(static_sparsity_splash)/splash_mha_PART_no_residuals/pallas_call"
)


def kernels_of(name="", config=""):
    metadata = f'metadata={{op_name="{name}"}}, ' if name else ""
    return count(parse(PROGRAM.replace("NAME", metadata).replace("CONFIG", config)), {"data": 1})


@pytest.mark.parametrize(("part", "products"), [("fwd", 2), ("dq", 3), ("dkv", 4)])
def test_splash_attention_counts_the_blocks_that_it_runs(part, products):
    """Each product of a block is 2 x 128 x 128 x 64 operations, 17 blocks a head, 2 rows x 16
    heads.
    """
    (kernel,) = kernels_of(PATH.replace("PART", part)).kernels
    assert kernel.flops == pytest.approx(products * 2 * 128 * 128 * 64 * 17 * 32)
    assert kernel.phase == "backward"


def test_what_a_kernel_states_of_itself_goes_first():
    costs = kernels_of(PATH.replace("PART", "fwd"), '"cost_estimate":{"flops": 77}')
    assert [k.flops for k in costs.kernels] == [77] and not costs.warnings


def test_an_unknown_kernel_is_a_warning():
    costs = kernels_of("jit(step)/pallas_call")
    assert costs.kernels[0].flops == 0
    assert costs.warnings == (
        "kernel kernel states no cost and none is known: it counts as nothing",
    )


def test_xlas_own_softmax_is_one_product():
    """Rows of 8 x 16 weights times 16 x 4 values, 3 of them."""
    program = """HloModule step

ENTRY %main (weights: f32[3,8,16], values: f32[3,16,4]) -> f32[3,8,4] {
  %weights = f32[3,8,16]{2,1,0} parameter(0)
  %values = f32[3,16,4]{2,1,0} parameter(1)
  ROOT %kernel = f32[3,8,4]{2,1,0} custom-call(%weights, %values),\
 custom_call_target="tpu_custom_call", metadata={op_name="online-softmax"}
}
"""
    costs = count(parse(program), {"data": 1})
    assert costs.kernels[0].flops == 2 * 3 * 8 * 16 * 4 and not costs.warnings
