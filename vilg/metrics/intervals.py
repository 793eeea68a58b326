"""95 % intervals of shares and of means."""

from collections.abc import Sequence

import numpy as np


def interval(share: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % Wilson interval (Wilson 1927) of a share that was measured on n trials."""
    if n == 0:
        return 0.0, 1.0
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    return max(0.0, centre - half), min(1.0, centre + half)


def t_interval(values: Sequence[float]) -> list[float] | None:
    """The 95 % interval of the mean of normally distributed values (Student's t); None for fewer
    than two values.
    """
    import scipy.special  # here, because sampling needs no scipy; scipy.stats is slower still

    if len(values) < 2:
        return None
    half = float(
        scipy.special.stdtrit(len(values) - 1, 0.975) * np.std(values, ddof=1) / len(values) ** 0.5
    )
    return [float(np.mean(values)) - half, float(np.mean(values)) + half]
