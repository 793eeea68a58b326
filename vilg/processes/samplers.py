"""Samplers of Gaussian processes, each a table of numbers computed in float64; one loop runs all of
them (gaussian.py's `advance`).

Evaluation j yields the clean prediction m0 at times[j]; m1 and m2 are those of the two evaluations
before. Then

    (x, base) <- matrix[j] [2, 5] @ (x, base, m0, m1, m2) + noise[j] * (eps, 0)

`base` is a state that a sampler returns to: Heun's point before its trial step, UniPC's corrected
point. x stays variance preserving. A row is an evaluation, not a step: Heun's second evaluation may
belong to the next expert. The last row always yields m0. Where diffusers' DDIM steps to timestep -
1000 // steps although it continues at another timestep, this one steps to the timestep at which it
continues.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vilg.config import lookup, require
from vilg.processes.base import TIMESTEPS, DenoisingControls, SamplingPlan
from vilg.processes.schedules import Schedule

X, BASE, M0, M1, M2 = range(5)  # columns of a row's matrix
Levels = tuple[np.ndarray, np.ndarray]
"""alpha and sigma [n + 1] at the n spaced times and, last, at the clean end (1, 0)."""
Rows = tuple[list[int], np.ndarray, np.ndarray]
"""For each of k evaluations the index of its spaced time, its matrix [k, 2, 5], its noise [k]."""


def ddim_factors(levels: Levels, j: int) -> tuple[float, float]:
    """(factor of x, factor of the clean prediction) of the step from time j to j + 1 that is exact
    if the prediction stays constant (DDIM).
    """
    alpha, sigma = levels
    kept = sigma[j + 1] / sigma[j]
    return kept, alpha[j + 1] - alpha[j] * kept


def ddim(levels: Levels, eta: float) -> Rows:
    """DDIM (2010.02502, eq. 12 and 16). With eta 0 it is Euler's method in sigma / alpha."""
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
    """Heun's method in sigma / alpha (2206.00364, algorithm 1); the step to the clean end, and a
    step from pure noise (alpha 0), is Euler's.
    """
    alpha, sigma = levels
    n, at, matrix = len(alpha) - 1, [], []
    for j in range(n):
        trial = np.zeros((2, 5))
        trial[0, [X, M0]], trial[1, X] = ddim_factors(levels, j), 1
        at, matrix = [*at, j], [*matrix, trial]
        if j < n - 1 and alpha[j] > 0:
            half = (sigma[j + 1] / alpha[j + 1] - sigma[j] / alpha[j]) / 2
            correction = np.zeros((2, 5))
            correction[0, [BASE, M1]] = 1 / alpha[j] + half / sigma[j], -half * alpha[j] / sigma[j]
            correction[0, [X, M0]] = half / sigma[j + 1], -half * alpha[j + 1] / sigma[j + 1]
            at, matrix = [*at, j + 1], [*matrix, alpha[j + 1] * correction]
    return at, np.stack(matrix), np.zeros(len(at))


def multistep(levels: Levels) -> tuple[np.ndarray, np.ndarray]:
    """The rows [n, 5] of DPM-Solver++(2M) (2211.01095, algorithm 2), and the steps [n] in
    log(alpha / sigma). The first and the last row are of first order.
    """
    alpha, sigma = levels
    n = len(alpha) - 1
    with np.errstate(divide="ignore"):
        h = np.diff(np.log(alpha) - np.log(sigma))
    rows = np.zeros((n, 5))
    for j in range(n):
        kept, clean = ddim_factors(levels, j)
        slope = 0.5 * h[j] / h[j - 1] if 0 < j < n - 1 else 0.0
        rows[j, [X, M0, M1]] = kept, clean * (1 + slope), -clean * slope
    return rows, h


def dpmpp_2m(levels: Levels, eta: float) -> Rows:
    """DPM-Solver++(2M)."""
    rows, _ = multistep(levels)
    return list(range(len(rows))), np.stack([rows, np.zeros_like(rows)], 1), np.zeros(len(rows))


def unipc(levels: Levels, eta: float) -> Rows:
    """UniPC of order 2 with B(h) = bh2 (2302.04867): each evaluation first corrects the step that
    led to it, then predicts as DPM-Solver++(2M) does.
    """
    rows, h = multistep(levels)
    n = len(rows)
    matrix = np.zeros((n, 2, 5))
    for j in range(n):
        base = matrix[j, 1]
        if j == 0:
            base[X] = 1
        else:
            kept, clean = ddim_factors(levels, j - 1)
            older, newer = corrector(h[j - 1], h[j - 2]) if j > 1 else (0.0, 0.5)
            base[[BASE, M0, M1, M2]] = (
                kept,
                clean * newer,
                clean * (1 - newer - older),
                clean * older,
            )
        matrix[j, 0] = rows[j, X] * base
        matrix[j, 0, [M0, M1]] += rows[j, [M0, M1]]
    return list(range(n)), matrix, np.zeros(n)


def corrector(h: float, before: float) -> tuple[float, float]:
    """Weights of (m2 - m1) and (m0 - m1) with which the step of length h, after a step of length
    `before`, is exact to third order.
    """
    # phi_1, and the integrals phi_2 and phi_3 of 2302.04867, up to factors
    growth = np.expm1(-h)
    phi_2 = growth / -h - 1
    phi_3 = phi_2 / -h - 0.5
    b1, b2 = phi_2 / growth, 2 * phi_3 / growth
    ratio = -before / h
    return (b1 - b2) / (ratio * (1 - ratio)), b1 - (b1 - b2) / (1 - ratio)


@dataclass(frozen=True)
class Sampler:
    """`rows` computes a sampler's rows from the levels and eta. The other fields say what
    diffusers' scheduler of the name does: `counts_end` counts the clean end as one of the spaced
    points (1) or not (0), `integer_timesteps` keeps to integer timesteps, `takes_eta` accepts an
    eta above 0.
    """

    rows: Callable[[Levels, float], Rows]
    counts_end: int = 0
    integer_timesteps: bool = True
    takes_eta: bool = False


SAMPLERS = {
    "ddim": Sampler(ddim, takes_eta=True),
    "ddpm": Sampler(ddpm),
    "euler": Sampler(ddim, integer_timesteps=False),
    "heun": Sampler(heun, integer_timesteps=False),
    "dpmpp_2m": Sampler(dpmpp_2m, counts_end=1),
    "unipc": Sampler(unipc, counts_end=1),
}


def spaced_times(
    controls: DenoisingControls, counts_end: int = 0, integer_timesteps: bool = True
) -> np.ndarray:
    """[steps] decreasing times in (last, first], spaced as in table 2 of 2305.08891: trailing
    begins at `first`, linspace begins at `first` and ends a timestep above `last`, leading ends
    there.
    """
    n, high, low = controls.steps, controls.first * TIMESTEPS, controls.last * TIMESTEPS
    if integer_timesteps:
        high, low = round(high), round(low)
    points = n + counts_end
    if controls.spacing == "trailing":
        steps = high - (high - low) / n * np.arange(n) - 1
    elif controls.spacing == "leading":
        require(
            points > 1,
            "steps",
            n,
            "leaves no noise to start from with spacing='leading': give 2 or more, or"
            " spacing='trailing'",
        )
        stride = (high - low) / points
        steps = low + (np.floor(stride) if integer_timesteps else stride) * np.arange(points)[::-1]
        steps = steps[:n]
    elif points > 1:
        steps = np.linspace(low, high - 1, points)[::-1][:n]
    else:
        steps = np.array([high - 1.0])
    return ((np.round(steps) if integer_timesteps else steps) + 1) / TIMESTEPS


def sampling_plan(schedule: Schedule, controls: DenoisingControls) -> SamplingPlan:
    """The plan of a Gaussian process: rows "matrix" [k, 2, 5] and, where the sampler adds noise,
    "noise" [k].

    Errors: UserError for an unknown sampler, an eta that it does not take, or more steps than there
    are timesteps.
    """
    sampler = lookup(SAMPLERS, controls.sampler, "sampler")
    require(
        sampler.takes_eta or controls.eta == 0,
        "eta",
        controls.eta,
        f"means nothing to sampler={controls.sampler!r}: leave it 0 or take 'ddim'",
    )
    if schedule.integer_timesteps:
        between = round(controls.first * TIMESTEPS) - round(controls.last * TIMESTEPS)
        most = between - (0 if controls.spacing == "trailing" else sampler.counts_end)
        remedy = (
            f"must be from 1 to {most}, for the {between} timesteps between last={controls.last:g}"
            f" and first={controls.first:g}"
        )
        require(controls.steps <= most, "steps", controls.steps, remedy)
    integers = sampler.integer_timesteps or controls.spacing != "linspace"
    times = spaced_times(controls, sampler.counts_end, schedule.integer_timesteps and integers)
    alpha, sigma = schedule.levels(times)
    levels = (np.append(alpha, 1.0), np.append(sigma, 0.0))
    at, matrix, noise = sampler.rows(levels, controls.eta)
    rows = {"matrix": matrix} | ({"noise": noise} if noise.any() else {})
    return SamplingPlan(times[at], rows)
