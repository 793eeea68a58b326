"""Samplers of Gaussian processes, each a table of numbers made in float64, all walked by one loop
(gaussian.py's `advance`).

Evaluation j yields the clean prediction m0 at times[j]; m1, m2 are those of the two evaluations
before. Then

    (x, base) <- matrix[j] [2, 5] @ (x, base, m0, m1, m2) + noise[j] * (eps, 0)

`base` is what a sampler has to come back to: Heun's point before its trial step, UniPC's corrected
point. x stays variance preserving. A row is an evaluation, not a step: Heun's second one may belong
to the next expert. The last row always yields m0. Where diffusers' DDIM steps to timestep - 1000 //
steps though it goes on at another, we step to the one we go on at."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vilg.config import lookup, require
from vilg.processes.base import TIMESTEPS, DenoisingControls, Plan
from vilg.processes.schedules import Schedule

X, BASE, M0, M1, M2 = range(5)
Levels = tuple[
    np.ndarray, np.ndarray
]  # alpha, sigma at the n times and, last, at the clean end (1, 0)
Rows = tuple[
    list[int], np.ndarray, np.ndarray
]  # which of the n times each evaluation is at, matrix, noise


def straight(levels: Levels, j: int) -> tuple[float, float]:
    """(factor of x, factor of the clean prediction) of the exact step from time j to j + 1 were the
    prediction constant (DDIM).
    """
    alpha, sigma = levels
    kept = sigma[j + 1] / sigma[j]
    return kept, alpha[j + 1] - alpha[j] * kept


def ddim(levels: Levels, eta: float) -> Rows:
    """DDIM (2010.02502, eq. 12 and 16); Euler's method in sigma / alpha is the same thing at eta
    0.
    """
    alpha, sigma = levels
    n = len(alpha) - 1
    matrix, noise = np.zeros((n, 2, 5)), np.zeros(n)
    for j in range(n):
        noise[j] = eta * sigma[j + 1] / sigma[j] * np.sqrt(1 - (alpha[j] / alpha[j + 1]) ** 2)
        kept = np.sqrt(sigma[j + 1] ** 2 - noise[j] ** 2) / sigma[j]
        matrix[j, 0, [X, M0]] = kept, alpha[j + 1] - alpha[j] * kept
    return list(range(n)), matrix, noise


def ddpm(levels: Levels, eta: float) -> Rows:
    """The ancestral sampler: the posterior q(x_s | x_t, x_0) (2006.11239, eq. 7), which is DDIM's
    eta 1.
    """
    return ddim(levels, 1.0)


def heun(levels: Levels, eta: float) -> Rows:
    """Heun's method in sigma / alpha (2206.00364, algorithm 1); the step to clean, and one from
    pure noise (alpha 0), is Euler's.
    """
    alpha, sigma = levels
    n, at, matrix = len(alpha) - 1, [], []
    for j in range(n):
        trial = np.zeros((2, 5))
        trial[0, [X, M0]], trial[1, X] = straight(levels, j), 1
        at, matrix = [*at, j], [*matrix, trial]
        if j < n - 1 and alpha[j] > 0:
            half = (sigma[j + 1] / alpha[j + 1] - sigma[j] / alpha[j]) / 2
            mend = np.zeros((2, 5))
            mend[0, [BASE, M1]] = 1 / alpha[j] + half / sigma[j], -half * alpha[j] / sigma[j]
            mend[0, [X, M0]] = half / sigma[j + 1], -half * alpha[j + 1] / sigma[j + 1]
            at, matrix = [*at, j + 1], [*matrix, alpha[j + 1] * mend]
    return at, np.stack(matrix), np.zeros(len(at))


def multistep(levels: Levels) -> tuple[np.ndarray, np.ndarray]:
    """(rows [n, 5] of DPM-Solver++(2M), 2211.01095 algorithm 2; h [n], the steps in log(alpha /
    sigma)). First and last are first order.
    """
    alpha, sigma = levels
    n = len(alpha) - 1
    with np.errstate(divide="ignore"):
        h = np.diff(np.log(alpha) - np.log(sigma))
    rows = np.zeros((n, 5))
    for j in range(n):
        kept, drawn = straight(levels, j)
        slope = 0.5 * h[j] / h[j - 1] if 0 < j < n - 1 else 0.0
        rows[j, [X, M0, M1]] = kept, drawn * (1 + slope), -drawn * slope
    return rows, h


def dpmpp_2m(levels: Levels, eta: float) -> Rows:
    """DPM-Solver++(2M)."""
    rows, _ = multistep(levels)
    return list(range(len(rows))), np.stack([rows, np.zeros_like(rows)], 1), np.zeros(len(rows))


def unipc(levels: Levels, eta: float) -> Rows:
    """UniPC of order 2, B(h) = bh2 (2302.04867): each evaluation first corrects the step that led
    to it, then predicts as DPM-Solver++.
    """
    rows, h = multistep(levels)
    n = len(rows)
    matrix = np.zeros((n, 2, 5))
    for j in range(n):
        base = matrix[j, 1]
        if j == 0:
            base[X] = 1
        else:
            kept, drawn = straight(levels, j - 1)
            older, newer = corrector(h[j - 1], h[j - 2]) if j > 1 else (0.0, 0.5)
            base[[BASE, M0, M1, M2]] = (
                kept,
                drawn * newer,
                drawn * (1 - newer - older),
                drawn * older,
            )
        matrix[j, 0] = rows[j, X] * base
        matrix[j, 0, [M0, M1]] += rows[j, [M0, M1]]
    return list(range(n)), matrix, np.zeros(n)


def corrector(h: float, before: float) -> tuple[float, float]:
    """Weights of (m2 - m1) and (m0 - m1) that make the step of length h after one of length
    `before` exact to third order.
    """
    whole = np.expm1(-h)
    first = whole / -h - 1
    second = first / -h - 0.5
    b1, b2 = first / whole, 2 * second / whole
    ratio = -before / h
    return (b1 - b2) / (ratio * (1 - ratio)), b1 - (b1 - b2) / (1 - ratio)


@dataclass(frozen=True)
class Sampler:
    """`rows` makes the table. Beyond it, what diffusers' scheduler of the name does: `ahead` counts
    the clean end as one of the spaced points, `whole` keeps to whole timesteps."""

    rows: Callable[[Levels, float], Rows]
    ahead: int = 0
    whole: bool = True
    eta: bool = False


SAMPLERS = {
    "ddim": Sampler(ddim, eta=True),
    "ddpm": Sampler(ddpm),
    "euler": Sampler(ddim, whole=False),
    "heun": Sampler(heun, whole=False),
    "dpmpp_2m": Sampler(dpmpp_2m, ahead=1),
    "unipc": Sampler(unipc, ahead=1),
}


def spaced(controls: DenoisingControls, ahead: int = 0, whole: bool = True) -> np.ndarray:
    """[steps] decreasing times in (last, first], as 2305.08891's table 2 spaces them: trailing
    begins at `first`, linspace at `first` and ends a timestep above `last`, leading ends there.
    `whole`: at whole timesteps."""
    n, high, low = controls.steps, controls.first * TIMESTEPS, controls.last * TIMESTEPS
    if whole:
        high, low = round(high), round(low)
    if controls.spacing == "trailing":
        steps = high - (high - low) / n * np.arange(n) - 1
    elif controls.spacing == "leading":
        require(
            n + ahead > 1,
            "steps",
            n,
            "leaves no noise to start from with spacing='leading': give 2 or more, or"
            " spacing='trailing'",
        )
        stride = (high - low) / (n + ahead)
        steps = low + (np.floor(stride) if whole else stride) * np.arange(n + ahead)[::-1][:n]
    else:
        steps = (
            np.linspace(low, high - 1, n + ahead)[::-1][:n]
            if n + ahead > 1
            else np.array([high - 1.0])
        )
    return ((np.round(steps) if whole else steps) + 1) / TIMESTEPS


def table(schedule: Schedule, controls: DenoisingControls) -> Plan:
    """The plan: rows "matrix" [k, 2, 5] and, where the sampler adds noise, "noise" [k]."""
    sampler = lookup(SAMPLERS, controls.sampler, "sampler")
    require(
        sampler.eta or controls.eta == 0,
        "eta",
        controls.eta,
        f"means nothing to sampler={controls.sampler!r}: leave it 0 or take 'ddim'",
    )
    if schedule.whole:
        between = round(controls.first * TIMESTEPS) - round(controls.last * TIMESTEPS)
        room = between - (0 if controls.spacing == "trailing" else sampler.ahead)
        remedy = (
            f"must be from 1 to {room}, for the {between} timesteps between last={controls.last:g}"
            f" and first={controls.first:g}"
        )
        require(controls.steps <= room, "steps", controls.steps, remedy)
    times = spaced(
        controls,
        sampler.ahead,
        schedule.whole and (sampler.whole or controls.spacing != "linspace"),
    )
    alpha, sigma = schedule.levels(times)
    at, matrix, noise = sampler.rows((np.append(alpha, 1.0), np.append(sigma, 0.0)), controls.eta)
    rows = {"matrix": matrix} | ({"noise": noise} if noise.any() else {})
    return Plan(times[at], rows)
