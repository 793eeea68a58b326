"""Attention on TPU: Pallas splash attention over the blocks of 128 x 128 positions at which a
pattern sees anything.

Separate from attention.py, because the kernel decides much: heads come first, lengths are multiples
of the block, a column layer's image tokens are put column by column (a column is then a contiguous
block: .21 of the blocks instead of .56), and the mask is data of the kernel. It comes from
patterns.visible, as every other implementation's. On anything but a TPU the kernel is interpreted:
for tests, not for use.

Queries, keys and values are taken with the positions last, as the projection can write them without
another pass: with heads of 64 last, every row of 128 lanes would be half empty, in memory too. XLA
cannot split a kernel, so each device runs it on its own rows and heads (constrain.shardwise). What
the backward pass needs of the forward one, the output and the log of the softmax's denominator, is
named "attention_out": a rematerialisation policy that saves that name does not run the forward
kernel twice. The share of blocks that run stands in the operations' names, from which plans count
the kernels (planning/kernels.py)."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernels
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask_info as mask_info
from jaxtyping import Array, Bool, Float

from vilg.nn.patterns import Directions, Grid, Pattern, visible
from vilg.parallel.constrain import platform, shardwise

# the smallest that the kernel takes; bigger ones erase the patterns' sparsity (a row layer at 384:
# .67 of the blocks, not .30)
BLOCK = 128
INPUT, WHOLE = (
    ("batch", "heads", "head_dim", None),
    ("batch", "heads", None, "head_dim"),
)  # positions whole, whatever the layout


def splash(
    q: Float[Array, "b l h k"],
    k: Float[Array, "b l h k"],
    v: Float[Array, "b l h k"],
    pattern: Pattern,
    direction: str,
    text_length: int,
    grid: Grid,
) -> Float[Array, "b l h k"]:
    """An entry of attention.IMPLEMENTATIONS."""
    turned = pattern.column_major
    q = (q.astype(jnp.float32) * q.shape[-1] ** -0.5).astype(q.dtype)
    q, k, v = (
        jnp.moveaxis(reorder(x, text_length, grid) if turned else x, 1, 3) for x in (q, k, v)
    )
    out = ordered_splash(q, k, v, pattern, direction, text_length, grid).swapaxes(1, 2)
    return reorder(out, text_length, grid, back=True) if turned else out


def ordered_splash(
    q: Float[Array, "b h k l"],
    k: Float[Array, "b h k l"],
    v: Float[Array, "b h k l"],
    pattern: Pattern,
    directions: Directions,
    text_length: int,
    grid: Grid,
) -> Float[Array, "b h l k"]:
    """The same in the kernel's own order: q scaled already, image positions column by column for a
    pattern that is column-major. Rows of several directions go to the kernel together, a group's as
    so many more heads with masks of their own: nothing is cut apart or copied. The stream comes as
    it is or padded to `whole_blocks`, and goes as it came; here padding costs three copies of
    heads, before a projection one of it."""
    interpret = platform() != "tpu"
    parts = ((directions, 1),) if isinstance(directions, str) else directions
    group, found = (
        sum(rows for _, rows in parts),
        [(mask_of(pattern, name, text_length, grid), rows) for name, rows in parts],
    )
    length, padded = q.shape[3], len(found[0][0])
    active, blocks = (
        sum(active_blocks(mask) * rows for mask, rows in found),
        group * (padded // BLOCK) ** 2,
    )

    def local(q: Array, k: Array, v: Array) -> Array:
        heads = 1 if len(parts) == 1 else q.shape[1]  # one mask serves any number of heads
        kernel = _kernel(
            pattern,
            tuple((name, rows * heads) for name, rows in parts),
            text_length,
            grid,
            interpret,
        )
        q, k, v = (jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, padded - length))) for x in (q, k, v))
        q, k, v = (
            x.reshape(-1, group * x.shape[1], *x.shape[2:]).swapaxes(2, 3) for x in (q, k, v)
        )  # turned back inside
        with jax.named_scope(f"splash_{active}_of_{blocks}_blocks_of_{BLOCK}_in_{padded}"):
            out: Any = jax.vmap(kernel)(q, k, v)
        return out.reshape(-1, out.shape[1] // group, *out.shape[2:])[:, :, :length]

    return shardwise(local, (INPUT, INPUT, INPUT), WHOLE)(q, k, v)


def joint_splash(
    q: Float[Array, "b h n k"], k: Float[Array, "b h m k"], v: Float[Array, "b h m k"]
) -> Float[Array, "b h n k"]:
    """Attention of n queries over m keys, all of which are seen, scaled by k**-0.5: of a U-Net's
    positions over text and picture.
    """
    n, m = q.shape[2], k.shape[2]
    queries, keys = whole_blocks(n), whole_blocks(m)
    kernel = _joint_kernel(queries, keys, m, platform() != "tpu")
    q = (q.astype(jnp.float32) * q.shape[-1] ** -0.5).astype(q.dtype)

    def local(q: Array, k: Array, v: Array) -> Array:
        q, k, v = (
            jnp.pad(x, ((0, 0), (0, 0), (0, size - x.shape[2]), (0, 0)))
            for x, size in ((q, queries), (k, keys), (v, keys))
        )
        with jax.named_scope(f"splash_1_of_1_blocks_of_{_block(keys)}_in_{keys}"):
            out: Any = jax.vmap(kernel)(q, k, v)
        return out[:, :, :n]

    return shardwise(local, (WHOLE,) * 3, WHOLE)(q, k, v)


def whole_blocks(length: int) -> int:
    """The length that the kernel pads a stream to."""
    return -(-length // BLOCK) * BLOCK


def _block(length: int) -> int:
    """The largest block that divides a padded length: without sparsity big blocks are better."""
    return next(size for size in (512, 384, 256, BLOCK) if length % size == 0)


def mask_of(
    pattern: Pattern, direction: str, text_length: int, grid: Grid
) -> Bool[np.ndarray, "l l"]:
    """Who sees whom in the kernel's order, padded to whole blocks. A position of the padding sees
    itself, so that no softmax is empty.
    """
    mask = visible(pattern, direction, text_length, grid)
    if pattern.column_major:
        image = np.arange(grid[0] * grid[1]).reshape(grid).T.reshape(-1)
        order = np.concatenate([np.arange(text_length), text_length + image])
        mask = mask[np.ix_(order, order)]
    length = len(mask)
    full = np.eye(whole_blocks(length), dtype=bool)
    full[:length, :length] = mask
    return full


def active_blocks(mask: Bool[np.ndarray, "l l"], block: int = BLOCK) -> int:
    """Blocks in which anything is visible: those that the kernel runs."""
    n = len(mask) // block
    return int(mask.reshape(n, block, n, block).any((1, 3)).sum())


@functools.lru_cache(maxsize=64)
def _joint_kernel(
    queries: int, keys: int, seen: int, interpret: bool
) -> kernels.SplashAttentionKernel:
    """The kernel of any number of heads that all see the first so many keys."""
    mask = masks.MultiHeadMask(
        [masks.NumpyMask(np.broadcast_to(np.arange(keys) < seen, (queries, keys)).copy())]
    )
    return _made(mask, _block(queries), _block(keys), interpret)


@functools.lru_cache(maxsize=64)
def _kernel(
    pattern: Pattern,
    heads: tuple[tuple[str, int], ...],
    text_length: int,
    grid: Grid,
    interpret: bool,
) -> kernels.SplashAttentionKernel:
    """The kernel of so many heads of each direction; of any number of heads if it is one of one.
    Built here, not by make_splash_mha, which would put its tables into whatever trace is under
    way."""
    made = [
        (masks.NumpyMask(mask_of(pattern, direction, text_length, grid)), count)
        for direction, count in heads
    ]
    return _made(
        masks.MultiHeadMask([one for one, count in made for _ in range(count)]),
        BLOCK,
        BLOCK,
        interpret,
    )


def _made(
    mask: masks.MultiHeadMask, block_q: int, block_kv: int, interpret: bool
) -> kernels.SplashAttentionKernel:
    last = dict.fromkeys(("q_layout", "k_layout", "v_layout"), kernels.QKVLayout.SEQ_MINOR)
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
        block_sizes=kernels.BlockSizes(**sizes, **last),
        is_mqa=False,
        save_residuals=False,
        mask_value=kernels.DEFAULT_MASK_VALUE,
        attn_logits_soft_cap=None,
        residual_checkpoint_name="attention_out",
        mask_function=function,
        interpret=interpret,
    )


def reorder(
    x: Float[Array, "b l *k"], text_length: int, grid: Grid, back: bool = False
) -> Float[Array, "b l *k"]:
    """The image positions column by column; `back`: row by row again."""
    text, image = x[:, :text_length], x[:, text_length:]
    shape = (grid[1], grid[0]) if back else grid
    image = image.reshape(x.shape[0], *shape, *x.shape[2:]).swapaxes(1, 2).reshape(image.shape)
    return jnp.concatenate([text, image], 1)
