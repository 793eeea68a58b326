"""Figures of TPU chips: one table, from which `vilg plan` takes every number.

Sources, read in 2026-11: docs.cloud.google.com/tpu/docs/{v4,v5e,v5p,v6e,tpu7x} for the peak, the
memory, its bandwidth, the chip's bidirectional link bandwidth (one link, one way, is that divided
by 4 x the dimensions of the torus) and the network's bandwidth. The clocks of v5e, v5p and v6e make
their peaks a whole number of products a cycle, and a product of 4096^3 reaches 97, 96 and 87 % of
the peak by `estimated_cycles`; v4's clock is peak / (2 x 8 x 128^2); tpu7x's is not known and taken
to be v5p's. The host's bandwidth is not published: PCIe 4.0 x8 is taken for every chip. The network
of v4 is not published: taken as v5e's (6.4 Tbps for a pod of 256 chips)."""

import dataclasses

GIB = 2.0**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """One chip.

    `peak`: FLOP/s of bfloat16. `clock`: Hz of the compiler's `estimated_cycles`. `hbm`: bytes.
    Bandwidths in bytes/s: `hbm_bandwidth`, `link` (one inter-chip link, one way), `network` (the
    chip's share of the data-centre network, one way), `host` (to or from the memory of its host).
    Each of the `torus` dimensions gives a chip two links. `devices`: the JAX devices of one chip.
    `options`: arguments of get_topology_desc for a generation of which a plain name would give
    cores instead of chips."""

    peak: float
    clock: float
    hbm: float
    hbm_bandwidth: float
    link: float
    torus: int
    network: float
    host: float = 16e9
    devices: int = 1
    options: tuple[tuple[str, str | tuple[int, ...]], ...] = ()


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
    # fake devices on a CPU: placement and bytes are real, times are not
    "cpu": Chip(1e11, 1e9, 24 * GIB, 20e9, 10e9, 1, 1e9),
}
