"""Attention on TPU: Pallas splash attention over the blocks of 128 x 128 positions at which a pattern sees anything.

Separate from attention.py, because the kernel decides much: heads come first, lengths are multiples of the block, a column layer's image tokens
are put column by column (a column is then a contiguous block: .21 of the blocks instead of .56), and the mask is data of the kernel. It comes
from patterns.visible, as every other implementation's. On anything but a TPU the kernel is interpreted: for tests, not for use.

XLA cannot split a kernel, so each device runs it on its own rows and heads (constrain.shardwise). What the backward pass needs of the forward
one, the output and the log of the softmax's denominator, is named "attention_out": a rematerialisation policy that saves that name does not
run the forward kernel twice. The share of blocks that run stands in the operations' names, from which plans count the kernels (parallel/costs.py).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernels
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks
from jaxtyping import Array, Bool, Float

from vilg.nn.patterns import Grid, Pattern, visible
from vilg.parallel.constrain import platform, shardwise

BLOCK = 128  # the smallest that the kernel takes; bigger ones erase the patterns' sparsity (a row layer at 384: .67 of the blocks, not .30)
AXES = ("batch", "length", "heads", "head_dim")


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
    interpret = platform() != "tpu"
    mask = mask_of(pattern, direction, text_length, grid)
    run, blocks = mask.shape[0] // BLOCK, active_blocks(mask)
    order = functools.partial(_reorder, text_length=text_length, grid=grid) if pattern.column_major else _same

    def local(q: Array, k: Array, v: Array) -> Array:
        kernel = _kernel(pattern, direction, text_length, grid, interpret)
        length = q.shape[1]
        q = (q.astype(jnp.float32) * q.shape[-1] ** -0.5).astype(q.dtype)
        heads_first = [_padded(order(x).swapaxes(1, 2), mask.shape[0]) for x in (q, k, v)]
        with jax.named_scope(f"splash_{blocks}_of_{run * run}_blocks"):
            out = jax.vmap(kernel)(*heads_first)
        return order(out[:, :, :length].swapaxes(1, 2), back=True)

    return shardwise(local, (AXES, AXES, AXES), AXES)(q, k, v)


def mask_of(pattern: Pattern, direction: str, text_length: int, grid: Grid) -> Bool[np.ndarray, "l l"]:
    """Who sees whom in the kernel's order, padded to whole blocks. A position of the padding sees itself, so that no softmax is empty."""
    mask = visible(pattern, direction, text_length, grid)
    if pattern.column_major:
        image = np.arange(grid[0] * grid[1]).reshape(grid).T.reshape(-1)
        order = np.concatenate([np.arange(text_length), text_length + image])
        mask = mask[np.ix_(order, order)]
    length = len(mask)
    full = np.eye(-(-length // BLOCK) * BLOCK, dtype=bool)
    full[:length, :length] = mask
    return full


def active_blocks(mask: Bool[np.ndarray, "l l"], block: int = BLOCK) -> int:
    """Blocks in which anything is visible: those that the kernel runs."""
    n = len(mask) // block
    return int(mask.reshape(n, block, n, block).any((1, 3)).sum())


@functools.lru_cache(maxsize=64)
def _kernel(pattern: Pattern, direction: str, text_length: int, grid: Grid, interpret: bool) -> kernels.SplashAttentionKernel:
    """The kernel of any number of heads: its mask has one head, which all share. Its tables are host arrays, so that no trace keeps them."""
    mask = masks.MultiHeadMask([masks.NumpyMask(mask_of(pattern, direction, text_length, grid))])
    names = ("block_q", "block_kv", "block_kv_compute", "block_q_dkv", "block_kv_dkv", "block_kv_dkv_compute", "block_q_dq", "block_kv_dq")
    sizes = kernels.BlockSizes(**dict.fromkeys(names, BLOCK))
    with jax.ensure_compile_time_eval():
        kernel = kernels.make_splash_mha_single_device(mask, block_sizes=sizes, residual_checkpoint_name="attention_out", interpret=interpret)
        return jax.tree.map(np.asarray, kernel)


def _same(x: Array, back: bool = False) -> Array:
    return x


def _reorder(x: Float[Array, "b l h k"], text_length: int, grid: Grid, back: bool = False) -> Float[Array, "b l h k"]:
    """The image positions column by column; `back`: row by row again."""
    text, image = x[:, :text_length], x[:, text_length:]
    shape = (grid[1], grid[0]) if back else grid
    image = image.reshape(x.shape[0], *shape, *x.shape[2:]).swapaxes(1, 2).reshape(image.shape)
    return jnp.concatenate([text, image], 1)


def _padded(x: Float[Array, "b h l k"], length: int) -> Float[Array, "b h p k"]:
    return jnp.pad(x, ((0, 0), (0, 0), (0, length - x.shape[2]), (0, 0)))
