"""Checks of config fields that several networks have, so that a bad field is one sentence when the
experiment is built. The modules themselves check nothing but the grids that they are given.
"""

from vilg.config import lookup, require
from vilg.nn.attention import check_implementation
from vilg.nn.cross_attention import IMPLEMENTATIONS
from vilg.nn.patterns import Grid
from vilg.nn.remat import REMAT


def check_transformer(
    path: str, width: int, layers: int, heads: int, mlp_ratio: float, rotary_base: float, remat: str
) -> None:
    """Raises a UserError unless the fields of the section `path` fit a stack of transformer blocks:
    an even width that the heads divide, at least one layer, and rotary positions only with heads of
    a multiple of 4.
    """
    require(width > 0 and width % 2 == 0, f"{path}.width", width, "must be even and at least 2")
    require(layers > 0, f"{path}.layers", layers, "must be at least 1")
    require(
        heads > 0 and width % heads == 0,
        f"{path}.heads",
        heads,
        f"must divide {path}.width={width}",
    )
    require(
        mlp_ratio * width >= 1,
        f"{path}.mlp_ratio",
        mlp_ratio,
        "must leave the feed-forward layer a width of at least 1",
    )
    fits = rotary_base == 0 or (rotary_base > 1 and width // heads % 4 == 0)
    require(
        fits,
        f"{path}.rotary_base",
        rotary_base,
        "must be 0, or above 1 with heads of a multiple of 4",
    )
    lookup(REMAT, remat, f"{path}.remat")


def check_denoiser_attention(implementation: str, query_chunk: int) -> None:
    """Raises a UserError unless a denoiser's two fields that say how its attention is computed name
    a known implementation, and chunks only where queries are taken in chunks.
    """
    path = "generator.denoiser"
    check_implementation(implementation, f"{path}.attention_implementation", IMPLEMENTATIONS)
    require(
        query_chunk >= 0,
        f"{path}.query_chunk",
        query_chunk,
        "must be 0 (all queries at once) or more",
    )
    require(
        implementation in ("auto", "chunked") or not query_chunk,
        f"{path}.query_chunk",
        query_chunk,
        f"needs attention_implementation=auto or chunked; {implementation} takes all queries at"
        " once",
    )


def check_divides_grid(factor: int, grid: Grid, path: str, field: str) -> None:
    """Raises a UserError unless the factor divides both sides of the grid; `field`, as in
    "patch=2", is the field of the section `path` that the factor comes from.
    """
    require(
        grid[0] % factor == 0 and grid[1] % factor == 0,
        "codec grid",
        grid,
        f"must be multiples of {factor} for {path}.{field}",
    )
