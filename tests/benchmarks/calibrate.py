"""The estimator of `vilg plan` on models whose MFU on real TPUs is published: what it is off by.

    python -m tests.benchmarks.calibrate --model=llama2_70b

Needs libtpu. A stand-in of the published model (scanned layers, fsdp, AdamW with f32 weights, bf16
products, causal splash attention, the published batch and length) is compiled for the published
topology and estimated as every plan is. MFU as published: 6 x parameters in matrix products + 12 x
layers x width x length a token, causal attention not halved. The table of measured
errors is in vilg/planning/estimate.py."""

import argparse
import dataclasses
import functools
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.ad_checkpoint import checkpoint_name
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernels
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks
from jax.sharding import NamedSharding, PartitionSpec

from vilg.compiler.flags import add_flags
from vilg.parallel.layouts import parse_layout
from vilg.parallel.mesh import make_mesh
from vilg.planning.chips import GIB
from vilg.planning.compilation import cache_file, compile_kept
from vilg.planning.costs import count
from vilg.planning.estimate import estimate
from vilg.planning.hlo_parser import parse
from vilg.planning.topology import parse_topology
from vilg.run.plan.verb import prepare


@dataclasses.dataclass(frozen=True)
class Model:
    """A Llama, what of its layers is kept for the backward pass (the rest is computed again), and
    what it reached.
    """

    width: int
    layers: int
    heads: int
    kv_heads: int
    mlp: int
    vocab: int
    length: int
    rows: int  # a chip
    topology: str
    kept: tuple[str, ...]
    published: float
    source: str
    block: int = 512

    @property
    def model_flops(self) -> float:
        """Of an update and a token."""
        size = self.width // self.heads
        layer = self.width * size * (2 * self.heads + 2 * self.kv_heads) + 3 * self.width * self.mlp
        return (
            6.0 * (self.layers * layer + self.width * self.vocab)
            + 12.0 * self.layers * self.width * self.length
        )


MODELS = {
    "llama2_70b": Model(
        8192,
        80,
        64,
        8,
        28672,
        32000,
        4096,
        4,
        "v5p:8x8x4",
        ("qkv", "out", "mlp_out"),
        0.654,
        "MaxText's README; its configs/v5p/llama2_70b.sh for batch, length and rematerialisation",
    ),
    "llama3_8b": Model(
        4096,
        32,
        32,
        8,
        14336,
        128256,
        8192,
        3,
        "v6e:16x16",
        (),
        0.455,
        "MaxText's recipe for v6e-256 (4 rows a chip, activations offloaded to the host; here 3"
        " rows, everything computed again)",
        block=1024,
    ),
}


def rms(x: Any, scale: Any) -> Any:
    """In f32, returned as bf16."""
    y = x.astype(jnp.float32)
    return (y * jax.lax.rsqrt(jnp.mean(y * y, -1, keepdims=True) + 1e-5) * scale).astype(
        jnp.bfloat16
    )


def rotate(x: Any) -> Any:
    """Rotary positions of [b, h, l, k]."""
    half, length = x.shape[-1] // 2, x.shape[2]
    angles = jnp.arange(length)[:, None] * 10_000.0 ** (-jnp.arange(half) / half)
    a, b = jnp.split(x.astype(jnp.float32), 2, -1)
    return jnp.concatenate(
        [a * jnp.cos(angles) - b * jnp.sin(angles), a * jnp.sin(angles) + b * jnp.cos(angles)], -1
    ).astype(x.dtype)


def shapes(m: Model) -> dict[str, tuple[int, ...]]:
    """Of all parameters, layers stacked; the axis of `width` is what fsdp splits."""
    n, size = m.layers, m.width // m.heads
    layer = {
        "q": (m.width, m.heads, size),
        "kv": (m.width, 2, m.kv_heads, size),
        "o": (m.heads, size, m.width),
        "gate": (m.width, m.mlp),
        "up": (m.width, m.mlp),
        "down": (m.mlp, m.width),
        "norm_attention": (m.width,),
        "norm_mlp": (m.width,),
    }
    return {name: (n, *shape) for name, shape in layer.items()} | {
        "table": (m.vocab, m.width),
        "head": (m.width, m.vocab),
        "norm": (m.width,),
    }


def attend(m: Model, mesh: Any, q: Any, k: Any, v: Any) -> Any:
    """Causal splash attention of [b, h, l, k] on each chip's rows; the share of its blocks stands
    in the name.
    """
    blocks = m.length // m.block
    active = blocks * (blocks + 1) // 2
    names = (
        "block_q",
        "block_kv",
        "block_kv_compute",
        "block_q_dkv",
        "block_kv_dkv",
        "block_kv_dkv_compute",
        "block_q_dq",
        "block_kv_dq",
    )

    def local(q: Any, k: Any, v: Any) -> Any:
        mask = masks.MultiHeadMask([masks.CausalMask((m.length, m.length))] * m.heads)
        kernel = kernels.make_splash_mha(
            mask,
            block_sizes=kernels.BlockSizes(**dict.fromkeys(names, m.block)),
            head_shards=1,
            q_seq_shards=1,
        )
        with jax.named_scope(f"splash_{active}_of_{blocks**2}_blocks_of_{m.block}_in_{m.length}"):
            return jax.vmap(kernel)(q, k, v)

    rows = PartitionSpec("data")
    return jax.shard_map(
        local, mesh=mesh, in_specs=(rows, rows, rows), out_specs=rows, check_vma=False
    )(q, k, v)


def loss(m: Model, mesh: Any, params: Any, tokens: Any) -> Any:
    """Mean cross-entropy of the next token."""
    batch = NamedSharding(mesh, PartitionSpec("data"))
    half = functools.partial(jax.tree.map, lambda x: x.astype(jnp.bfloat16))

    def layer(x: Any, w: Any) -> tuple[Any, None]:
        y = rms(x, w["norm_attention"])
        q = checkpoint_name(rotate(jnp.einsum("bld,dhk->bhlk", y, half(w["q"]))), "qkv")
        k, v = checkpoint_name(jnp.einsum("bld,dzhk->zbhlk", y, half(w["kv"])), "qkv")
        mixed = attend(m, mesh, q * (q.shape[-1] ** -0.5), rotate(k), v)
        x = x + checkpoint_name(jnp.einsum("bhlk,hkd->bld", mixed, half(w["o"])), "out")
        y = rms(x, w["norm_mlp"])
        y = jax.nn.silu(y @ half(w["gate"])) * (y @ half(w["up"]))
        x = x + checkpoint_name(y @ half(w["down"]), "mlp_out")
        return jax.lax.with_sharding_constraint(x, batch), None

    stacked = {k: v for k, v in params.items() if k not in ("table", "head", "norm")}
    x = jax.lax.with_sharding_constraint(half(params["table"])[tokens], batch)
    body = jax.checkpoint(
        layer, policy=jax.checkpoint_policies.save_only_these_names(*m.kept), prevent_cse=False
    )
    x, _ = jax.lax.scan(body, x, stacked)
    logits = jax.lax.with_sharding_constraint(
        (rms(x, params["norm"]) @ half(params["head"])).astype(jnp.float32), batch
    )
    return optax.softmax_cross_entropy_with_integer_labels(logits[:, :-1], tokens[:, 1:]).mean()


def lowered(m: Model) -> tuple[Any, Any, Any]:
    """(mesh, topology, the update, lowered)."""
    topology = parse_topology(m.topology)
    mesh = make_mesh(parse_layout("fsdp"), topology.devices())
    optimizer = optax.adamw(1e-4)

    def sharding(shape: tuple[int, ...]) -> NamedSharding:
        axes = ["data" if size == m.width else None for size in shape]
        return NamedSharding(mesh, PartitionSpec(*axes))

    def placed(tree: Any) -> Any:
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding(x.shape)), tree
        )

    params = placed({k: jax.ShapeDtypeStruct(s, jnp.float32) for k, s in shapes(m).items()})
    state = placed(jax.eval_shape(optimizer.init, params))
    tokens = jax.ShapeDtypeStruct(
        (m.rows * mesh.size, m.length),
        jnp.int32,
        sharding=NamedSharding(mesh, PartitionSpec("data")),
    )

    def update(params: Any, state: Any, tokens: Any) -> Any:
        value, grads = jax.value_and_grad(functools.partial(loss, m, mesh))(params, tokens)
        grads = jax.tree.map(
            lambda g: jax.lax.with_sharding_constraint(g, sharding(g.shape)), grads
        )
        with jax.named_scope("optimizer"):
            changes, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, changes), state, value

    out = (
        jax.tree.map(lambda x: x.sharding, params),
        jax.tree.map(lambda x: x.sharding, state),
        None,
    )
    return (
        mesh,
        topology,
        jax.jit(update, donate_argnums=(0, 1), out_shardings=out).lower(params, state, tokens),
    )


def main() -> None:
    """Prints the estimates beside what is published."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=sorted(MODELS), default="llama2_70b")
    parser.add_argument(
        "--rows", type=int, default=0, help="a chip, instead of the published batch"
    )
    parser.add_argument(
        "--flags", default="tpu_async_gather", help="sets of vilg/compiler/flags.py"
    )
    parser.add_argument(
        "--hlo", default="", metavar="FILE", help="keeps the optimized program as text"
    )
    args = parser.parse_args()
    model = MODELS[args.model]
    model = dataclasses.replace(model, rows=args.rows or model.rows)
    prepare(parse_topology(model.topology))
    add_flags(args.flags)
    began = time.process_time()
    mesh, topology, program = lowered(model)
    compiled = compile_kept(program, cache_file(program, topology), True)
    text = compiled.text
    if args.hlo:
        Path(args.hlo).write_text(text)
    found = estimate(count(parse(text), dict(mesh.shape)), topology, list(mesh.devices.flat))
    mfu = found.mfu(model.model_flops * model.rows * model.length, topology.chip)
    held, spent = (
        compiled.bytes_needed / GIB,
        (
            "kept"
            if compiled.cached
            else f"compiled in {time.process_time() - began:.0f} CPU-seconds"
        ),
    )
    print(f"{args.model} on {model.topology}, {model.rows} rows a chip, {held:.1f} GiB, {spent}")
    print(
        f"step {1e3 * found.likely:.0f} ms: compute {1e3 * found.compute:.0f}, memory"
        f" {1e3 * found.memory:.0f}, asynchronous {1e3 * found.asynchronous:.0f}, synchronous"
        f" {1e3 * found.synchronous:.0f}"
    )
    print(
        f"MFU best {mfu['best']:.3f}, likely {mfu['likely']:.3f}, serial {mfu['serial']:.3f};"
        f" published {model.published:.3f} ({model.source})"
    )
    print(f"the likely estimate is off by {mfu['likely'] / model.published - 1:+.1%}")


if __name__ == "__main__":
    main()
