"""Reading HLO: trip counts, groups, shapes, and bodies that hold lines of a kernel."""

import numpy as np
import pytest

from vilg.planning.collectives import axes_along, groups_of, kind_of
from vilg.planning.hlo_parser import parse
from vilg.planning.loops import walk

LOOP = """HloModule toy, is_scheduled=true

%body (arg: (s32[], f32[4,8])) -> (s32[], f32[4,8]) {
  %arg = (s32[], f32[4,8]{1,0:T(8,128)S(1)}) parameter(0)
  %i = s32[] get-tuple-element(%arg), index=0
  %x = f32[4,8]{1,0} get-tuple-element(%arg), index=1
  %one = s32[] constant(1)
  %next = s32[] add(%i, %one)
  %kernel = f32[4,8]{1,0} custom-call(%x), custom_call_target="tpu_custom_call",\
 backend_config={"text": "
}{ not the end
  "flops": 77 "}
  %sum = f32[4,8]{1,0} all-reduce(%kernel), channel_id=3, replica_groups=[2,4]<=[4,2]T(1,0),\
 use_global_device_ids=true, to_apply=%add
  ROOT %out = (s32[], f32[4,8]{1,0}) tuple(%next, %sum)
}

%condition (arg.1: (s32[], f32[4,8])) -> pred[] {
  %arg.1 = (s32[], f32[4,8]{1,0}) parameter(0)
  %i.1 = s32[] get-tuple-element(%arg.1), index=0
  %limit = s32[] constant(7)
  ROOT %less = pred[] compare(%i.1, %limit), direction=LT
}

ENTRY %main (p: f32[4,8]) -> f32[4,8] {
  %p = f32[4,8]{1,0} parameter(0)
  %start = s32[] constant(2)
  %state = (s32[], /*index=1*/f32[4,8]{1,0}) tuple(%start, %p)
  %loop = (s32[], f32[4,8]{1,0}) while(%state), condition=%condition, body=%body
  ROOT %result = f32[4,8]{1,0} get-tuple-element(%loop), index=1,\
 metadata={op_name="jit(f)/transpose(jvp(\\"x\\"))/add" stack_frame_id=3}
}
"""


def test_a_body_goes_on_after_a_kernels_braces_and_runs_as_often_as_the_condition_says():
    module = parse(LOOP)
    visited = {i.name: times for _, i, times in walk(module, [])}
    assert (
        visited["sum"] == 5
        and visited["loop"] == 1
        and visited["out"] == 5
        and len(module.computations) == 3
    )
    body = module.computations["body"]
    assert (
        '"flops": 77' in body.by_name["kernel"].rest
        and kind_of(body.by_name["sum"]) == "all-reduce"
    )
    assert body.by_name["arg"].shapes[1].space == 1 and body.by_name["sum"].bytes == 4 * 8 * 4
    assert (
        module.computations["main"].by_name["result"].op_name
        == 'jit(f)/transpose(jvp(\\"x\\"))/add'
    )


def test_known_trip_counts_come_first_and_a_loop_without_end_is_said():
    module = parse(
        LOOP.replace("body=%body", 'body=%body, backend_config={"known_trip_count":{"n":"11"}}')
    )
    assert {i.name: t for _, i, t in walk(module, [])}["sum"] == 11
    endless = parse(LOOP.replace("s32[] constant(7)", "s32[] parameter(1)"))
    warnings: list[str] = []
    assert {i.name: t for _, i, t in walk(endless, warnings)}[
        "sum"
    ] == 1 and "no trip count is known" in warnings[0]


def test_what_is_no_hlo_is_refused():
    with pytest.raises(ValueError, match="no ENTRY"):
        parse("hello")


@pytest.mark.parametrize(
    ("written", "expected", "axes"),
    [
        ("{{0,1,2,3},{4,5,6,7}}", [[0, 1, 2, 3], [4, 5, 6, 7]], ("b",)),
        ("{}", [[0, 1, 2, 3, 4, 5, 6, 7]], ("a", "b")),
        ("[2,4]<=[8]", [[0, 1, 2, 3], [4, 5, 6, 7]], ("b",)),
        ("[4,2]<=[2,4]T(1,0)", [[0, 4], [1, 5], [2, 6], [3, 7]], ("a",)),
        ("mesh['x'=2,'y'=4] {'x'}", [[0, 4], [1, 5], [2, 6], [3, 7]], ("a",)),
        ("mesh['x'=2,'y'=4] {'y'}", [[0, 1, 2, 3], [4, 5, 6, 7]], ("b",)),
        ("mesh['x'=2,'y'=4] {'y':(1)2}", [[0, 2], [1, 3], [4, 6], [5, 7]], ("b",)),
        ("mesh['x'=2,'y'=4] {'y':(2)2}", [[0, 1], [2, 3], [4, 5], [6, 7]], ("b",)),
        ("mesh['x'=8] {'x':(1)2,'x':(4)2}", [[0, 1, 4, 5], [2, 3, 6, 7]], ("a", "b")),
        (
            "mesh['x'=2,'y'=2,'z'=2], device_ids=(0,1,2,3,4,5,7,6) {'y','z'}",
            [[0, 1, 2, 3], [4, 5, 7, 6]],
            ("b",),
        ),
        (
            "mesh['x'=4,'y'=2], device_ids=([2,4]T(1,0)) {'y'}",
            [[0, 4], [1, 5], [2, 6], [3, 7]],
            ("a",),
        ),
    ],
)
def test_groups_in_every_spelling(written, expected, axes):
    text = LOOP.replace("[2,4]<=[4,2]T(1,0)", written)
    instruction = parse(text).computations["body"].by_name["sum"]
    groups = groups_of(instruction, 8)
    assert groups == expected and axes_along(groups, {"a": 2, "b": 4}) == axes
    assert sorted(np.concatenate(groups)) == list(range(8))


def test_a_permutation_is_its_pairs():
    text = LOOP.replace("all-reduce(%kernel)", "collective-permute(%kernel)").replace(
        "replica_groups=[2,4]<=[4,2]T(1,0)", "source_target_pairs={{0,1},{1,0}}"
    )
    assert groups_of(parse(text).computations["body"].by_name["sum"], 8) == [[0, 1], [1, 0]]


def test_an_unknown_spelling_is_an_error_not_a_guess():
    text = LOOP.replace("[2,4]<=[4,2]T(1,0)", "something")
    with pytest.raises(ValueError, match="not known: something"):
        groups_of(parse(text).computations["body"].by_name["sum"], 8)
