"""Topologies: arrangements of chips, for which libtpu can compile on a machine that has none.

A topology is named as JAX names it: "v5p:4x4x4", with ",slices=2" for several slices joined by the
data-centre network, or "cpu:8" for fake devices, which need no libtpu."""

import dataclasses
import importlib.util
import math
import os
import re

import jax
from jax.experimental import topologies

from vilg.config import lookup, require
from vilg.planning.chips import CHIPS, Chip
from vilg.types import Device, UserError

# The environment in which libtpu describes topologies on a machine without a TPU.
LIBTPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


@dataclasses.dataclass(frozen=True)
class Topology:
    """An arrangement of chips, which this machine may not have. `shape` is that of one slice."""

    generation: str
    shape: tuple[int, ...]
    slices: int = 1

    @property
    def chip(self) -> Chip:
        """The figures of the generation's chip."""
        return CHIPS[self.generation]

    @property
    def chips(self) -> int:
        """The number of chips of all slices."""
        return math.prod(self.shape) * self.slices

    @property
    def size(self) -> int:
        """The number of JAX devices of all slices."""
        return self.chips * self.chip.devices

    @property
    def slice(self) -> str:
        """The name of one slice, without ",slices=..."."""
        return f"{self.generation}:{'x'.join(map(str, self.shape))}"

    def __str__(self) -> str:
        return self.slice if self.slices == 1 else f"{self.slice},slices={self.slices}"

    def devices(self) -> list[Device]:
        """The devices for which programs are compiled. Before JAX is first used, `use_cpu` must be
        called, and LIBTPU be in the environment.

        Errors: UserError where libtpu is missing or does not know the topology, or where there are
        fewer fake CPU devices."""
        if self.generation == "cpu":
            devices = [d for d in jax.devices() if d.platform == "cpu"]
            require(
                len(devices) >= self.size,
                "topology",
                str(self),
                f"set XLA_FLAGS=--xla_force_host_platform_device_count={self.size}",
            )
            return devices[: self.size]
        if importlib.util.find_spec("libtpu") is None:
            raise UserError(
                f"topology={str(self)!r}: libtpu, which compiles for TPUs, is not installed; run"
                " pip install 'vilg[tpu]', or plan for fake devices with --topology=cpu:8"
            )
        options: dict[str, str | int | tuple[int, ...]] = dict(self.chip.options)
        if self.slices > 1:
            options["num_slices"] = self.slices
        try:
            described = topologies.get_topology_desc(self.slice, "tpu", **options)
            return list(described.devices)
        except (jax.errors.JaxRuntimeError, NotImplementedError, ValueError) as error:
            raise UserError(
                f"topology={str(self)!r}: libtpu refuses it: {str(error).splitlines()[0]}"
            ) from None


def use_cpu() -> None:
    """Makes JAX compile, and run fake devices, on the CPU of a machine that may have other devices,
    unless JAX_PLATFORMS says otherwise. Also works after JAX has read its environment.
    """
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    jax.config.update("jax_platforms", os.environ["JAX_PLATFORMS"])


def add_fake_devices(count: int) -> None:
    """Adds XLA's flag for this number of CPU devices to the environment, unless the environment has
    the flag; to be called before JAX is first used.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_force_host_platform_device_count" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={count}".strip()


def parse_topology(text: str) -> Topology:
    """The topology of "v5p:4x4x4" or "v5e:16x16,slices=2".

    Errors: UserError that lists the known generations, or says how to write the text."""
    name, *options = str(text).split(",")
    generation, _, shape = name.partition(":")
    torus = lookup(CHIPS, generation, "topology").torus
    form = f"write it as {generation}:{'x'.join('4' * torus)}, or with ,slices=2 after it"
    valid = re.fullmatch(r"[1-9][0-9]*(x[1-9][0-9]*){0,2}", shape) is not None
    require(valid, "topology", text, form)
    slices = 1
    for option in options:
        key, _, number = option.partition("=")
        valid = key == "slices" and re.fullmatch("[1-9][0-9]*", number) is not None
        require(valid, "topology", text, form)
        slices = int(number)
        remedy = f"fake devices are of one slice; write cpu:{shape}"
        require(generation != "cpu" or slices == 1, "topology", text, remedy)
    sizes = tuple(int(n) for n in shape.split("x"))
    remedy = f"{generation} is a torus of {torus} dimensions; {form}"
    require(len(sizes) <= torus, "topology", text, remedy)
    return Topology(generation, sizes, slices)
