"""FID's InceptionV3 beside the same network in torch, on pictures of 299 pixels: pictures a
CPU-second of inference, in one process.

Before they are timed, both have to give the same features."""

import os

import jax
import numpy as np

from vilg.frozen import Frozen
from vilg.nn.inception import SIDE, Inception, from_state
from vilg.run.bench.timing import Row, alternate


def run(lite: bool) -> list[Row]:
    """The row at the sizes of FID."""
    return measure()


def measure(side: int = SIDE, batch: int = 8, repeats: int = 3) -> list[Row]:
    """One row; a speedup above 1 means that ours reads more pictures a CPU-second."""
    import torch  # pyright: ignore[reportMissingImports]

    from vilg.run.bench.torch_inception import random_inception

    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(cores)
    theirs = random_inception()
    params = from_state({name: tensor.numpy() for name, tensor in theirs.state_dict().items()})
    ours = Frozen(
        lambda p, x: Inception().apply({"params": p}, x), params, batch, jax.local_devices()[:1]
    )
    images = np.random.default_rng(0).uniform(-1, 1, (batch, side, side, 3)).astype(np.float32)
    nchw = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()

    def run_theirs() -> np.ndarray:
        with torch.inference_mode():
            return theirs(nchw)[0].numpy()

    our_features, their_features = ours(images)()[0], run_theirs()
    difference = np.abs(our_features - their_features).max() / np.abs(their_features).max()
    assert difference < 1e-4, difference
    seconds = alternate({"ours": lambda: ours(images)(), "torch": run_theirs}, repeats)
    return [
        {
            "benchmark": "inception",
            "side": side,
            "batch": batch,
            "cores": cores,
            "feature_difference": float(difference),
            "ours_images_per_cpu_second": batch / seconds["ours"].cpu,
            "torch_images_per_cpu_second": batch / seconds["torch"].cpu,
            "speedup": seconds["torch"].cpu / seconds["ours"].cpu,
        }
    ]
