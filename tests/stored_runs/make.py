"""Trains the stored runs: `python tests/stored_runs/make.py`, with the code of the commit whose
runs are to be stored (README.md says how).

Writes KIND/finished.tar.xz and KIND/half.tar.xz beside this file. A half-trained run is stopped by
SIGTERM, which saves a checkpoint.
"""

import io
import os
import signal
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

from measure import ENVIRONMENT, GENERATORS  # noqa: E402

STOPPED = 3  # of six updates
LEFT_OUT = (".lock", "parameters.txt", "samples", "events.out")  # a run goes on without them

SCENES = dict(
    name="synthetic", image_size=32, max_objects=2, groups=0.0, snap=4, backgrounds=("plain",)
)
DATA = dict(
    train=dict(SCENES, split="train", n=64),
    valid=dict(SCENES, split="valid", n=32),
    loader=dict(seed=0),
)
TRAINING = dict(
    steps=6, batch_size=8, accumulation=1, ema=0.0, checkpoint_every=100, log_every=1, keep_last=1
)
BLOCKS = dict(
    width=8,
    layers=1,
    heads=2,
    mlp_ratio=2.0,
    embed_scale=0.5,
    qk_norm=True,
    scan=False,
    remat="none",
    dtype="float32",
)
MUON = dict(
    kind="muon",
    learning_rate=0.01,
    adam_ratio=1.0,
    schedule="linear",
    decay_share=0.5,
    warmup_steps=2,
    clip=1.0,
)
ADAM = dict(kind="adamw", learning_rate=0.01, schedule="constant", warmup_steps=0, clip=0.0)
LOSSES = dict(batches=1, batch_size=16)
SAMPLED = dict(n=2, cells=("single_object",), guidance=2.0)


def codec() -> dict[str, Any]:
    """A VQ codec. Its k-means comes before the stop, two revivals of codes come after the stop."""
    return dict(
        seed=0,
        data=DATA,
        codec=dict(
            name="vq",
            workdir="",
            image_size=32,
            vocabulary=32,
            code_width=8,
            architecture=dict(
                name="patch",
                patch=4,
                width=8,
                depth=1,
                context=0,
                channels=4,
                refinements=0,
                output_size=1,
            ),
            quantizer=dict(name="nearest", beta=0.25),
            l1=1.0,
            l2=0.0,
            autoencoder_warmup=2,
            revive_after=2,
            bank=512,
        ),
        generator={},
        optimizer=dict(
            kind="muon",
            learning_rate=0.01,
            schedule="trapezoid",
            decay_share=0.5,
            warmup_steps=2,
            clip=0.0,
        ),
        layout=dict(name="dp"),
        training=dict(TRAINING, sample_every=6),
        evals=dict(reconstruction=dict(images=32)),
    )


def on_codec(
    generator: dict[str, Any], optimizer: dict[str, Any], ema: float, evals: dict[str, Any]
) -> dict[str, Any]:
    """The experiment of a model on the codec."""
    return dict(
        seed=0,
        data=dict(DATA, text=dict(vocabulary=320, length=24, records=40)),
        codec=dict(workdir="", floors={}, experiment=codec()),
        generator=generator,
        optimizer=optimizer,
        layout=dict(name="dp"),
        training=dict(TRAINING, ema=ema),
        evals=evals,
    )


def transformer() -> dict[str, Any]:
    """A transformer in both directions, with an average of its parameters."""
    generator = dict(
        name="autoregressive",
        width=8,
        layers=1,
        heads=2,
        patterns="dense",
        attention="blockwise",
        scan=False,
        remat="none",
    )
    generator |= dict(
        dtype="float32", code_embedding="codec", qk_norm=True, rotary_base=100.0, embed_scale=0.5
    )
    generator |= dict(
        image_to_text_weight=0.2, caption_every=1, drop_text=0.1, text_window=0, image_window=0
    )
    return on_codec(
        generator, MUON, 0.9, dict(losses=LOSSES, scenes=dict(SAMPLED, temperature=0.8))
    )


def denoiser(experts: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A diffusion model on the codec's latents, with an average of its parameters."""
    generator = dict(
        name="diffusion",
        process=dict(
            name="gaussian",
            schedule=dict(name="log_linear", sigma_min=0.02, sigma_max=80.0),
            prediction="x0",
            weighting=dict(name="x0"),
            times=dict(name="lognormal", mean=1.7, std=1.0),
        ),
        denoiser=dict(BLOCKS, name="dit", patch=1, zero_gates=False, rotary_base=100.0) | changes,
        text=dict(BLOCKS, window=2),
        experts=experts,
        drop_text=0.1,
    )
    return on_codec(
        generator,
        ADAM,
        0.5,
        dict(losses=LOSSES, scenes=dict(SAMPLED, captions=False, sampler="ddim", steps=3)),
    )


def diffusion() -> dict[str, Any]:
    """A diffusion model of one network."""
    return denoiser(dict(n=1))


def experts() -> dict[str, Any]:
    """A diffusion model of two experts, whose layers are one stacked array."""
    return denoiser(dict(n=2, split=dict(name="uniform"), train_text=False), layers=2, scan=True)


def ranker() -> dict[str, Any]:
    """A dual encoder, on the codec `pixels`, which has nothing to train."""
    generator = dict(
        name="dual_encoder",
        image=dict(BLOCKS, patch=1, rotary_base=100.0),
        text=dict(BLOCKS, window=2),
        projection=8,
    )
    config = on_codec(
        dict(generator, first_scale=14.3), ADAM, 0.0, dict(retrieval=dict(n=11, changes=8))
    )
    config["codec"]["experiment"] = dict(
        codec(), codec=dict(name="pixels", image_size=32, patch=8), evals={}
    )
    return config


RUNS = {
    "codec": codec,
    "transformer": transformer,
    "diffusion": diffusion,
    "experts": experts,
    "ranker": ranker,
}


def get_config(kind: str) -> Any:
    """The experiment of a kind."""
    from ml_collections import ConfigDict

    return ConfigDict(RUNS[kind]())


def main() -> None:
    """Trains and packs all."""
    with tempfile.TemporaryDirectory() as folder:
        for kind in RUNS:
            for name, code in (("finished", 0), ("half", 75)):
                workdir = Path(folder, kind, name)
                shared = (
                    [f"--config.codec.workdir={folder}/codec/finished"]
                    if kind in GENERATORS
                    else []
                )
                found = train(kind, workdir, STOPPED if code else 0, shared)
                if found != code:
                    raise SystemExit(f"{kind}/{name}: exit code {found}, not {code}")
                pack(workdir, HERE / kind / f"{name}.tar.xz")


def train(kind: str, workdir: Path, stopped: int, shared: list[str]) -> int:
    """The exit code of `vilg train`. Where `stopped` is not 0, SIGTERM comes when the step before
    it has been logged; training is one step further by then, and saves that step."""
    from vilg.run.cli import main as command_line
    from vilg.training.log import RunLog

    write = RunLog.write

    def write_and_stop(self: RunLog, step: int, scalars: Any) -> None:
        write(self, step, scalars)
        if step == stopped - 1:
            signal.raise_signal(signal.SIGTERM)

    RunLog.write = write_and_stop
    try:
        return command_line(
            ["train", f"--config={__file__}:{kind}", f"--workdir={workdir}", *shared]
        )
    finally:
        RunLog.write = write


def pack(workdir: Path, archive: Path) -> None:
    """The run's files as an archive, without times, users and places of this machine."""
    archive.parent.mkdir(exist_ok=True)
    with tarfile.open(archive, "w:xz") as tar:
        for name, content in contents(workdir):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def contents(workdir: Path) -> Iterator[tuple[str, bytes]]:
    """(name in the archive, content) of every file that is kept."""
    for file in sorted(p for p in workdir.rglob("*") if p.is_file()):
        name = file.relative_to(workdir)
        if not name.parts[0].startswith(LEFT_OUT):
            # Orbax looks whether commit_success.txt is there, and writes into it where that was.
            content = b"" if file.name == "commit_success.txt" else file.read_bytes()
            if str(workdir.parent.parent).encode() in content:
                raise SystemExit(f"{file} names a place of this machine")
            yield name.as_posix(), content


if __name__ == "__main__":
    os.environ.update(ENVIRONMENT)
    main()
