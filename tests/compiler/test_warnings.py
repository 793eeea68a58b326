"""What the compiler writes to file descriptor 2 becomes a list; what others write there stays where
it was.
"""

import os
import sys

import pytest

from vilg.compiler.warnings import compiler_warnings, summary

REMATERIALIZED = (
    "W1127 14:36:17.179485    1088 spmd_partitioner.cc:656] [SPMD] Involuntary full"
    " rematerialization. The compiler cannot go from sharding {devices=[4,2,1,1]<=[8]} to"
    " {devices=[1,1,1,8]<=[8]} efficiently for HLO operation %add_any.154 = f32[8,2,4,64]{3,2,1,0}"
    " add(%mul.2434), sharding={devices=[4,2,1,1]<=[8]},"
    ' metadata={op_name="jit(update)/UNet/add_any" stack_frame_id=942}. As the last resort, SPMD'
    " will replicate."
)


def test_sentences_are_counted_and_the_first_operation_named():
    other = REMATERIALIZED.replace("jit(update)/UNet/add_any", "other")
    lines = [
        REMATERIALIZED,
        other,
        "W1127 14:36:17.1 1 a.cc:1] slow",
        "I1127 1:1:1.1 1 a.cc:2] hello",
    ]
    assert summary([*lines, lines[2]]) == [
        (
            "involuntary full rematerialization of 2 arrays (replicated to change their sharding),"
            " first jit(update)/UNet/add_any"
        ),
        "slow (2 times)",
    ]
    without_name = REMATERIALIZED.replace("op_name", "name")
    assert "first %add_any.154" in summary([without_name])[0]


def test_what_is_written_past_python_is_caught_and_the_rest_passed_on(capfd):
    with pytest.raises(ValueError, match="mine"), compiler_warnings() as found:  # noqa: PT012
        os.write(2, f"{REMATERIALIZED}\n".encode())
        print("a line of somebody else's", file=sys.stderr)
        raise ValueError("mine")
    assert len(found) == 1 and capfd.readouterr().err == "a line of somebody else's\n"
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"
