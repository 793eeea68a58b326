"""Attention on TPUs: Pallas splash attention over the blocks of 128 x 128 positions at which a
pattern sees anything.

Separate from attention.py because the kernel decides much: heads come first, lengths are multiples
of the block, the image positions of a column layer stand column by column (a column is then
contiguous: .21 of the blocks run instead of .56), and the mask is data of the kernel. The mask is
Geometry.mask, as for every other implementation. On any device but a TPU the kernel is interpreted:
for tests, not for use.

Queries, keys and values come with their positions last, an order in which the projection can write
them without another pass. With heads of 64 last, every row of 128 lanes would be half empty, in
memory too. XLA cannot split a kernel, so each device runs it on its own rows and heads
(constrain.shardwise). The backward pass needs two arrays of the forward pass, the output and the
logarithm of the softmax's denominator; both have the name "attention_out", and a rematerialisation
policy that saves this name does not run the forward kernel twice. The share of blocks that run
stands in the operations' names, from which `vilg plan` counts the kernels' FLOPs
(planning/kernels.py).
"""

import functools
from collections.abc import Sequence
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernels
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask_info as mask_info
from jaxtyping import Array, Bool, Float

from vilg.nn.geometry import Geometry
from vilg.nn.patterns import Grid
from vilg.parallel.constrain import platform, shardwise

# The smallest block that the kernel takes. Bigger ones lose the patterns' sparsity: of a row layer
# at 384 .67 of the blocks run, at 128 .30.
BLOCK = 128
# the axes of positions-last and of positions-before-last arrays; no layout splits the positions
POSITIONS_LAST = ("batch", "heads", "head_dim", None)
HEADS_FIRST = ("batch", "heads", None, "head_dim")


def splash(
    q: Float[Array, "b l h k"],
    k: Float[Array, "b l h k"],
    v: Float[Array, "b l h k"],
    geometry: Geometry,
) -> Float[Array, "b l h k"]:
    """An entry of attention.IMPLEMENTATIONS: attention of the whole stream."""
    q = (q.astype(jnp.float32) * q.shape[-1] ** -0.5).astype(q.dtype)
    if not geometry.pattern.column_major:
        q, k, v = (jnp.moveaxis(x, 1, 3) for x in (q, k, v))
        return splash_positions_last(q, k, v, ((geometry, 1),)).swapaxes(1, 2)
    m, grid = geometry.text_length, geometry.grid
    q, k, v = (jnp.moveaxis(columns_first(x, m, grid), 1, 3) for x in (q, k, v))
    out = splash_positions_last(q, k, v, ((geometry, 1),)).swapaxes(1, 2)
    return rows_first(out, m, grid)


def splash_positions_last(
    q: Float[Array, "b h k l"],
    k: Float[Array, "b h k l"],
    v: Float[Array, "b h k l"],
    parts: Sequence[tuple[Geometry, int]],
) -> Float[Array, "b h l k"]:
    """The same in the kernel's own order: q is scaled already, and the image positions stand column
    by column for a pattern that is column-major.

    `parts` holds (geometry, rows): the batch consists of groups of rows, and in each group so many
    rows have the first geometry, then so many the next. The rows of a group go to the kernel
    together, as so many more heads with masks of their own: nothing is cut apart or copied. The
    stream may be padded to `padded_length` or not, and the result has its length; padding here
    costs three copies of heads, padding before the projection one copy of the stream.
    """
    interpret = platform() != "tpu"
    group = sum(rows for _, rows in parts)
    weighted = [(kernel_mask(geometry), rows) for geometry, rows in parts]
    length, padded = q.shape[3], len(weighted[0][0])
    active = sum(active_blocks(mask) * rows for mask, rows in weighted)
    blocks = group * (padded // BLOCK) ** 2

    def local(q: Array, k: Array, v: Array) -> Array:
        heads = 1 if len(parts) == 1 else q.shape[1]  # one mask serves any number of heads
        kernel = _kernel(tuple((geometry, rows * heads) for geometry, rows in parts), interpret)
        q, k, v = (jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, padded - length))) for x in (q, k, v))
        # the kernel takes positions before last, and undoes this exchange of axes inside
        q, k, v = (
            x.reshape(-1, group * x.shape[1], *x.shape[2:]).swapaxes(2, 3) for x in (q, k, v)
        )
        with jax.named_scope(f"splash_{active}_of_{blocks}_blocks_of_{BLOCK}_in_{padded}"):
            out = _run(kernel, q, k, v)
        return out.reshape(-1, out.shape[1] // group, *out.shape[2:])[:, :, :length]

    return shardwise(local, (POSITIONS_LAST,) * 3, HEADS_FIRST)(q, k, v)


def joint_splash(
    q: Float[Array, "b h n k"], k: Float[Array, "b h m k"], v: Float[Array, "b h m k"]
) -> Float[Array, "b h n k"]:
    """Attention of n queries to m keys, all of them visible, scaled by k**-0.5: of a U-Net's
    positions to the text and the image.
    """
    n, m = q.shape[2], k.shape[2]
    queries, keys = padded_length(n), padded_length(m)
    kernel = _joint_kernel(queries, keys, m, platform() != "tpu")
    q = (q.astype(jnp.float32) * q.shape[-1] ** -0.5).astype(q.dtype)

    def local(q: Array, k: Array, v: Array) -> Array:
        q, k, v = (
            jnp.pad(x, ((0, 0), (0, 0), (0, size - x.shape[2]), (0, 0)))
            for x, size in ((q, queries), (k, keys), (v, keys))
        )
        with jax.named_scope(f"splash_1_of_1_blocks_of_{_largest_block(keys)}_in_{keys}"):
            out = _run(kernel, q, k, v)
        return out[:, :, :n]

    return shardwise(local, (HEADS_FIRST,) * 3, HEADS_FIRST)(q, k, v)


def padded_length(length: int) -> int:
    """The multiple of the block to which the kernel pads a stream of this length."""
    return -(-length // BLOCK) * BLOCK


def _largest_block(length: int) -> int:
    """The largest block that divides a padded length: without sparsity big blocks are better."""
    return next(size for size in (512, 384, 256, BLOCK) if length % size == 0)


def kernel_mask(geometry: Geometry) -> Bool[np.ndarray, "l l"]:
    """Geometry.mask in the kernel's order, padded to whole blocks. A position of the padding sees
    itself, so that no softmax is empty.
    """
    mask = geometry.mask()
    if geometry.pattern.column_major:
        m = geometry.text_length
        image = np.arange(geometry.image_length).reshape(geometry.grid).T.reshape(-1)
        order = np.concatenate([np.arange(m), m + image])
        mask = mask[np.ix_(order, order)]
    length = len(mask)
    full = np.eye(padded_length(length), dtype=bool)
    full[:length, :length] = mask
    return full


def active_blocks(mask: Bool[np.ndarray, "l l"], block: int = BLOCK) -> int:
    """The number of blocks in which anything is visible, which are those that the kernel runs."""
    n = len(mask) // block
    return int(mask.reshape(n, block, n, block).any((1, 3)).sum())


@functools.lru_cache(maxsize=64)
def _joint_kernel(
    queries: int, keys: int, visible: int, interpret: bool
) -> kernels.SplashAttentionKernel:
    """The kernel of any number of heads that all see the first `visible` keys."""
    mask = np.broadcast_to(np.arange(keys) < visible, (queries, keys)).copy()
    heads = masks.MultiHeadMask([masks.NumpyMask(mask)])
    return _build_kernel(heads, _largest_block(queries), _largest_block(keys), interpret)


@functools.lru_cache(maxsize=64)
def _kernel(
    heads: tuple[tuple[Geometry, int], ...], interpret: bool
) -> kernels.SplashAttentionKernel:
    """The kernel of so many heads of each geometry; with one head of one geometry it is the kernel
    of any number of such heads.
    """
    head_masks = [
        mask
        for geometry, count in heads
        for mask in [masks.NumpyMask(kernel_mask(geometry))] * count
    ]
    return _build_kernel(masks.MultiHeadMask(head_masks), BLOCK, BLOCK, interpret)


def _build_kernel(
    mask: masks.MultiHeadMask, block_q: int, block_kv: int, interpret: bool
) -> kernels.SplashAttentionKernel:
    """What the library's make_splash_mha builds, without putting its tables into the trace that is
    under way.
    """
    layouts = dict.fromkeys(("q_layout", "k_layout", "v_layout"), kernels.QKVLayout.SEQ_MINOR)
    sizes = dict.fromkeys(("block_q", "block_q_dkv", "block_q_dq"), block_q)
    sizes |= dict.fromkeys(
        ("block_kv", "block_kv_compute", "block_kv_dkv", "block_kv_dkv_compute", "block_kv_dq"),
        block_kv,
    )
    forward, function = mask_info.process_mask(mask, (block_q, block_kv))
    return kernels.SplashAttentionKernel(
        forward,
        forward,  # the pass for dq goes through the same blocks
        mask_info.process_mask_dkv(mask, (block_q, block_kv))[0],
        block_sizes=kernels.BlockSizes(**sizes, **layouts),
        is_mqa=False,
        save_residuals=False,
        mask_value=kernels.DEFAULT_MASK_VALUE,
        attn_logits_soft_cap=None,
        residual_checkpoint_name="attention_out",
        mask_function=function,
        interpret=interpret,
    )


def _run(kernel: kernels.SplashAttentionKernel, q: Array, k: Array, v: Array) -> Array:
    """The kernel on every row of a batch: [b h l k] of the queries' length."""
    return cast(Array, jax.vmap(kernel)(q, k, v))  # no residuals, as save_residuals is False


def columns_first(
    x: Float[Array, "b l *k"], text_length: int, grid: Grid
) -> Float[Array, "b l *k"]:
    """The stream with its image positions, which are in raster order, column by column."""
    return _reorder(x, text_length, grid)


def rows_first(x: Float[Array, "b l *k"], text_length: int, grid: Grid) -> Float[Array, "b l *k"]:
    """The inverse of `columns_first`."""
    return _reorder(x, text_length, (grid[1], grid[0]))


def _reorder(x: Array, text_length: int, shape: Grid) -> Array:
    text, image = x[:, :text_length], x[:, text_length:]
    image = image.reshape(x.shape[0], *shape, *x.shape[2:]).swapaxes(1, 2).reshape(image.shape)
    return jnp.concatenate([text, image], 1)
