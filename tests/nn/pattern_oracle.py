"""An oracle of the patterns: who sees whom, enumerated position by position from PAPERS 2.2 and
independent of vilg/nn/patterns.py.
"""

import numpy as np

# (pattern, row_mode, convolution size)
VARIANTS = [
    ("dense", "raster_window", 11),
    ("row", "raster_window", 11),
    ("row", "same_row", 11),
    ("column", "raster_window", 11),
    ("convolution", "raster_window", 11),
    ("convolution", "raster_window", 3),
]


def seen_by_image(
    pattern: str, row_mode: str, size: int, direction: str, index: int, grid: tuple[int, int]
) -> set[int]:
    """The image keys that image query `index` sees."""
    rows, width = grid
    r, c = divmod(index, width)
    reach = (size - 1) // 2
    causal = direction == "text_to_image"
    if pattern == "dense":
        return set(range(index + 1)) if causal else set(range(rows * width))
    if pattern == "column":
        return {row * width + c for row in range(rows) if row <= r or not causal}
    if pattern == "row":
        if causal and row_mode == "raster_window":
            return {key for key in range(index - width, index + 1) if key >= 0}
        return {r * width + column for column in range(width) if column <= c or not causal}
    seen = set()
    if causal:
        for dr in range(reach + 1):
            for dc in range(-reach, reach + 1):
                back = dr * width + dc
                if back >= 0 and index - back >= 0:
                    seen.add(index - back)
        return seen
    for row in range(r - reach, r + reach + 1):
        for column in range(c - reach, c + reach + 1):
            if 0 <= row < rows and 0 <= column < width:
                seen.add(row * width + column)
    return seen


def mask(
    pattern: str, row_mode: str, size: int, direction: str, text_length: int, grid: tuple[int, int]
) -> np.ndarray:
    """Bool [m+n, m+n] over [text ; image]."""
    n = grid[0] * grid[1]
    out = np.zeros((text_length + n, text_length + n), bool)
    for query in range(text_length + n):
        if query < text_length:
            keys = (
                set(range(text_length))
                if direction == "text_to_image"
                else {*range(query + 1), *range(text_length, text_length + n)}
            )
        else:
            image = seen_by_image(pattern, row_mode, size, direction, query - text_length, grid)
            keys = {text_length + key for key in image}
            if direction == "text_to_image":
                keys |= set(range(text_length))
        out[query, sorted(keys)] = True
    return out


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Softmax attention in float64, a query at a time; [b, l, h, k]."""
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    out = np.zeros_like(q)
    for i in range(q.shape[1]):
        keys = np.flatnonzero(visible[i])
        logits = np.einsum("bhk,bshk->bhs", q[:, i], k[:, keys]) / np.sqrt(q.shape[-1])
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        out[:, i] = np.einsum("bhs,bshk->bhk", weights / weights.sum(-1, keepdims=True), v[:, keys])
    return out
