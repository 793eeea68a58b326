"""Tables of chips, machines, flags, programs and options: what each entry promises."""

import dataclasses

import pytest

from tests.conftest import tiny_config, tiny_diffusion
from vilg.compiler.flags import COMPILED_WITH, FLAG_SETS, add_flags, parse_flags
from vilg.experiment import build_experiment
from vilg.overrides import values
from vilg.planning.chips import CHIPS
from vilg.planning.estimate import CALIBRATION, is_ring
from vilg.planning.programs import PROGRAMS, PlannedProgram
from vilg.planning.topology import parse_topology
from vilg.program import Program
from vilg.run.launch.machines import MACHINES, ordered
from vilg.run.verify.options import PATHS, options_of, with_options


@pytest.mark.parametrize("generation", CHIPS)
def test_a_chip_has_positive_figures_and_a_topology(generation):
    chip = CHIPS[generation]
    figures = {k: v for k, v in dataclasses.asdict(chip).items() if k != "options"}
    assert all(value > 0 for value in figures.values()), figures
    assert chip.network < chip.link < chip.hbm_bandwidth < chip.peak, "from slow to fast"
    topology = parse_topology(f"{generation}:{'x'.join('4' * chip.torus)}")
    assert topology.size == 4**chip.torus * chip.devices
    assert is_ring(topology, 16), "a pod's dimension closes"


@pytest.mark.parametrize("generation", MACHINES)
def test_a_machine_orders_whole_hosts(generation):
    torus = CHIPS[generation].torus
    slice_ = ordered(parse_topology(f"{generation}:{'x'.join('4' * torus)}"))
    assert slice_.chips == 4**torus and slice_.hosts * slice_.host_chips == slice_.chips
    assert slice_.accelerator.startswith(f"{MACHINES[generation].prefix}-")
    assert slice_.label.startswith("tpu") and "{" not in slice_.machine
    assert set(CHIPS) - set(MACHINES) == {"cpu"}


@pytest.mark.parametrize("name", FLAG_SETS)
def test_a_set_of_flags_names_its_compiler_and_its_source(name, monkeypatch):
    entry = FLAG_SETS[name]
    assert entry.variable in COMPILED_WITH and entry.flags and entry.source
    assert parse_flags(name) == (name,)
    monkeypatch.setattr("vilg.compiler.flags.known", lambda variable, flags: flags)
    environment: dict[str, str] = {}
    add_flags(name, environment)
    assert environment[entry.variable].split() == list(entry.flags)
    if not entry.variable.startswith("JAX_"):
        assert all(flag.startswith("--") and "=" in flag for flag in entry.flags)
        assert len({flag.partition("=")[0] for flag in entry.flags}) == len(entry.flags)


def test_calibrations_name_chips_and_flags_that_there_are():
    for known in CALIBRATION:
        assert known.generation in CHIPS and parse_flags(known.flags)
        assert 0 < known.published < 1 and 0 < known.estimated < 1


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_can_be_lowered_and_says_what_it_is_worth(name):
    program = Program(build_experiment(tiny_diffusion()))
    planned = PROGRAMS[name](program)
    assert isinstance(planned, PlannedProgram)
    assert planned.model_flops > 0 < planned.images
    assert "stablehlo" in planned.lower().as_text()


def test_every_option_that_verify_varies_is_varied_by_some_experiment():
    varied = set()
    for config in (tiny_config().to_dict(), tiny_diffusion().to_dict()):
        for options in options_of(config):
            ((name, value),) = options.items()
            changed = with_options(config, options)
            assert set(map(repr, values(changed, PATHS[name]))) == {repr(value)}
            build_experiment(changed)
            varied.add(name)
    assert varied == set(PATHS)
