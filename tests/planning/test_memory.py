"""What fusions touch and hold, by hand, on a small program of the shape that scanned layers
have.
"""

import pytest

from vilg.planning.hlo_parser import parse
from vilg.planning.memory import buffers_at_peak
from vilg.planning.traffic import traffic_of

TEXT = """HloModule jit_update, is_scheduled=true

%keep (p.0: f32[11,64], p.1: f32[64], p.2: s32[]) -> (f32[11,64], f32[64]) {
  %p.0 = f32[11,64]{1,0} parameter(0)
  %p.1 = f32[64]{0} parameter(1)
  %p.2 = s32[] parameter(2)
  %zero = s32[] constant(0)
  %doubled = f32[64]{0} add(%p.1, %p.1)
  %row = f32[1,64]{1,0} bitcast(%doubled)
  %updated = f32[11,64]{1,0} dynamic-update-slice(%p.0, %row, %p.2, %zero)
  ROOT %both = (f32[11,64]{1,0}, f32[64]{0}) tuple(%updated, %doubled)
}

%read (q.0: f32[11,64], q.1: s32[]) -> f32[64] {
  %q.0 = f32[11,64]{1,0} parameter(0)
  %q.1 = s32[] parameter(1)
  %zero.1 = s32[] constant(0)
  %whole = f32[11,64]{1,0} bitcast(%q.0)
  %one = f32[1,64]{1,0} dynamic-slice(%whole, %q.1, %zero.1), dynamic_slice_sizes={1,64}
  ROOT %flat = f32[64]{0} bitcast(%one)
}

%body (state: (s32[], f32[64], f32[11,64])) -> (s32[], f32[64], f32[11,64]) {
  %state = (s32[], f32[64]{0}, f32[11,64]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %x = f32[64]{0} get-tuple-element(%state), index=1
  %stack = f32[11,64]{1,0} get-tuple-element(%state), index=2
  %kept = (f32[11,64]{1,0}, f32[64]{0}) fusion(%stack, %x, %i), kind=kLoop, calls=%keep,\
 metadata={op_name="jit(update)/jvp(Model)/layer/dot_general"}
  %stacked = f32[11,64]{1,0} get-tuple-element(%kept), index=0
  %next = f32[64]{0} get-tuple-element(%kept), index=1
  ROOT %out = (s32[], f32[64]{0}, f32[11,64]{1,0}) tuple(%i, %next, %stacked)
}

%condition (c: (s32[], f32[64], f32[11,64])) -> pred[] {
  %c = (s32[], f32[64]{0}, f32[11,64]{1,0}) parameter(0)
  ROOT %yes = pred[] constant(true)
}

ENTRY %main (a: f32[64], n: s32[]) -> f32[64] {
  %a = f32[64]{0} parameter(0)
  %n = s32[] parameter(1)
  %nothing = f32[] constant(0)
  %zeros = f32[11,64]{1,0} broadcast(%nothing), dimensions={}
  %given = (s32[], f32[64]{0}, f32[11,64]{1,0}) tuple(%n, %a, %zeros)
  %loop = (s32[], f32[64]{0}, f32[11,64]{1,0}) while(%given), condition=%condition, body=%body,\
 backend_config={"known_trip_count":{"n":"11"}}
  %layers = f32[11,64]{1,0} get-tuple-element(%loop), index=2
  ROOT %last = f32[64]{0} fusion(%layers, %n), kind=kLoop, calls=%read
}
"""
ROW = 64 * 4


@pytest.fixture(scope="module")
def module():
    return parse(TEXT)


def moved_by(module, computation: str, name: str) -> float:
    return traffic_of(
        module, module.computations[computation], module.computations[computation].by_name[name]
    )


def test_an_update_in_place_moves_its_part_only(module):
    assert (
        moved_by(module, "body", "kept") == 3 * ROW + 4
    )  # reads x and i; writes a row of the stack, and the row itself


def test_a_slice_seen_through_views_reads_the_slice_only(module):
    assert moved_by(module, "main", "last") == 2 * ROW + 4


def test_what_is_stacked_is_held_once_under_the_name_of_what_fills_it(module):
    found = buffers_at_peak(module)
    assert [(b.bytes, b.name, b.phase) for b in found] == [
        (11 * ROW, "jit(update)/jvp(Model)/layer/dot_general", "forward"),  # the stack
        (
            ROW,
            "jit(update)/jvp(Model)/layer/dot_general",
            "forward",
        ),  # what the body makes beside it
    ]
