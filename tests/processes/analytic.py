"""A target whose best denoiser is known: independent normals, so that samplers can be judged
without a network.
"""

import numpy as np

MEAN, STD = 0.7, 0.4


def posterior_mean(x, alpha, sigma):
    """E[x0 | x] for x0 ~ N(MEAN, STD^2), x = alpha x0 + sigma eps."""
    return MEAN + alpha * STD**2 / (alpha**2 * STD**2 + sigma**2) * (x - alpha * MEAN)


def flow(x, at, to):
    """The probability-flow ODE's exact solution from levels `at` = (alpha, sigma) to levels
    `to`.
    """
    (a, s), (b, r) = at, to
    return b * MEAN + np.sqrt((b**2 * STD**2 + r**2) / (a**2 * STD**2 + s**2)) * (x - a * MEAN)


def walk(plan, schedule, x, noise=None):
    """[k + 1] the x before each evaluation and the result: the plan's own arithmetic, in float64,
    with the best denoiser.
    """
    parts, seen = np.zeros((5, *x.shape)), [x]
    parts[0] = x
    for j, t in enumerate(plan.times):
        parts[2] = posterior_mean(parts[0], *schedule.levels(t))
        new = np.tensordot(plan.rows["matrix"][j], parts, 1)
        if "noise" in plan.rows:
            new[0] += plan.rows["noise"][j] * noise[j]
        parts = np.stack([*new, parts[2], parts[2], parts[3]])
        seen.append(parts[0])
    return np.stack(seen)
