"""TPU chips as numbers, and the topologies that libtpu can compile for on a machine without one.

One table, CHIPS, with its sources; `plan` takes every figure from here. A topology is named as JAX
names it: "v5p:4x4x4", with ",slices=2" for several slices joined by the data-centre network, or
"cpu:8" for fake devices where libtpu is absent."""

import dataclasses
import importlib.util
import math
import os
import re
from typing import Any

import jax
from jax.experimental import topologies

from vilg.config import lookup, require
from vilg.types import UserError

GIB = 2.0**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """One chip. `peak` in FLOP/s of bfloat16; `clock` in Hz of the compiler's `estimated_cycles`;
    `hbm` in bytes; bandwidths in bytes/s: `hbm_bandwidth`, `link` (one inter-chip link, one way),
    `network` (its share of the data-centre network, one way), `host` (to or from its host's
    memory). Each of the `torus` dimensions gives a chip two links. `devices`: how many JAX devices
    a chip is."""

    peak: float
    clock: float
    hbm: float
    hbm_bandwidth: float
    link: float
    torus: int
    network: float
    host: float = 16e9
    devices: int = 1
    options: tuple[
        tuple[str, Any], ...
    ] = ()  # for get_topology_desc, where a plain name would list cores


# Sources: docs.cloud.google.com/tpu/docs/{v4,v5e,v5p,v6e,tpu7x}, read in 2026-11, for peak, memory,
# its bandwidth, the chip's bidirectional link bandwidth (a link one way is that over 4 x torus) and
# the network's. Clocks of v5e, v5p, v6e: by which their peaks are a
# whole number of products a cycle; of v4: peak / (2 x 8 x 128^2); of tpu7x: as
# v5p's, not known. Host: PCIe 4.0 x8 for all, not published. Network of v4: as v5e's (6.4 Tbps a
# pod of 256), not published.
CHIPS: dict[str, Chip] = {
    "v4": Chip(
        275e12,
        1.05e9,
        32 * GIB,
        1228e9,
        50e9,
        3,
        3.1e9,
        options=(("chip_config_name", "megacore"), ("chips_per_host_bounds", (2, 2, 1))),
    ),
    "v5e": Chip(197e12, 1.5e9, 16 * GIB, 819e9, 50e9, 2, 3.1e9),
    "v5p": Chip(459e12, 1.75e9, 95 * GIB, 2765e9, 100e9, 3, 6.25e9),
    "v6e": Chip(918e12, 1.75e9, 32 * GIB, 1638e9, 100e9, 2, 12.5e9),
    "tpu7x": Chip(2307e12, 1.75e9, 192 * GIB, 7380e9, 100e9, 3, 12.5e9, devices=2),
    "cpu": Chip(
        1e11, 1e9, 24 * GIB, 20e9, 10e9, 1, 1e9
    ),  # fake devices: placement and bytes are real, times are not
}
LIBTPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


@dataclasses.dataclass(frozen=True)
class Topology:
    """Chips that may not be there. `shape` is of one slice."""

    generation: str
    shape: tuple[int, ...]
    slices: int = 1

    @property
    def chip(self) -> Chip:
        """The generation's figures."""
        return CHIPS[self.generation]

    @property
    def chips(self) -> int:
        """Of all slices."""
        return math.prod(self.shape) * self.slices

    @property
    def size(self) -> int:
        """JAX devices of all slices."""
        return self.chips * self.chip.devices

    @property
    def slice(self) -> str:
        """The name of one slice."""
        return f"{self.generation}:{'x'.join(map(str, self.shape))}"

    def __str__(self) -> str:
        return self.slice if self.slices == 1 else f"{self.slice},slices={self.slices}"

    def devices(self) -> list[jax.Device]:
        """What programs are compiled for. The environment must hold LIBTPU, and JAX be `on_cpu`,
        before it is first used.

        Errors: UserError where libtpu is missing, or knows no such topology, or there are fewer
        fake CPU devices."""
        if self.generation == "cpu":
            here = [d for d in jax.devices() if d.platform == "cpu"]
            require(
                len(here) >= self.size,
                "topology",
                str(self),
                f"set XLA_FLAGS=--xla_force_host_platform_device_count={self.size}",
            )
            return here[: self.size]
        if importlib.util.find_spec("libtpu") is None:
            raise UserError(
                f"topology={str(self)!r}: libtpu, which compiles for TPUs, is not installed; run"
                " pip install 'vilg[tpu]', or plan for fake devices with --topology=cpu:8"
            )
        options = {
            **dict(self.chip.options),
            **({"num_slices": self.slices} if self.slices > 1 else {}),
        }
        try:
            return list(
                topologies.get_topology_desc(
                    platform="tpu", topology_name=self.slice, **options
                ).devices
            )
        except (jax.errors.JaxRuntimeError, NotImplementedError, ValueError) as error:
            raise UserError(
                f"topology={str(self)!r}: libtpu refuses it: {str(error).splitlines()[0]}"
            ) from None


def on_cpu() -> None:
    """Compiles, and runs fake devices, on the CPU of a machine that may have more, unless the
    environment says otherwise; JAX, which has read its environment, is told too."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    jax.config.update("jax_platforms", os.environ["JAX_PLATFORMS"])


def ask_for_fake_devices(count: int) -> None:
    """Tells XLA to make so many CPU devices, unless the environment already says how many; before
    JAX is first used.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_force_host_platform_device_count" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={count}".strip()


def parse_topology(text: str) -> Topology:
    """The topology of "v5p:4x4x4" or "v5e:16x16,slices=2".

    Errors: UserError that lists the known generations, or says how the text is to be written.
    """
    name, *options = str(text).split(",")
    generation, _, shape = name.partition(":")
    lookup(CHIPS, generation, "topology")
    form = (
        f"write it as {generation}:{'x'.join('4' * CHIPS[generation].torus)}, or with ,slices=2"
        " after it"
    )
    require(
        re.fullmatch(r"[1-9][0-9]*(x[1-9][0-9]*){0,2}", shape) is not None, "topology", text, form
    )
    slices = 1
    for option in options:
        key, _, value = option.partition("=")
        require(
            key == "slices" and re.fullmatch("[1-9][0-9]*", value) is not None,
            "topology",
            text,
            form,
        )
        slices = int(value)
        require(
            generation != "cpu" or slices == 1,
            "topology",
            text,
            f"fake devices are of one slice; write cpu:{shape}",
        )
    sizes = tuple(int(n) for n in shape.split("x"))
    require(
        len(sizes) <= CHIPS[generation].torus,
        "topology",
        text,
        f"{generation} is a torus of {CHIPS[generation].torus} dimensions; {form}",
    )
    return Topology(generation, sizes, slices)
