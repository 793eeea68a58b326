"""Reads other people's weight files as {name: array}, and never runs code that is in them.

Separate because the perceptual network and the VQGAN importer both need it, and torch is needed only here, only for torch files.
"""

from typing import Any

import numpy as np

from vilg.paths import local
from vilg.types import UserError


def read(path: str, field: str) -> dict[str, np.ndarray]:
    """The arrays of a .npz, .safetensors or torch file (.pth, .pt, .ckpt, .bin; read with weights_only), float32 where they are bf16.

    Errors: UserError that names `field`, the path and the remedy.
    """
    file = local(path)
    if not file.is_file():
        raise UserError(f"{field}={path!r}: there is no such file; give the path of a weight file")
    if file.suffix == ".npz":
        with np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    if file.suffix not in (".safetensors", ".pth", ".pt", ".ckpt", ".bin"):
        raise UserError(f"{field}={path!r}: unknown kind of file; give .npz, .safetensors or a torch file (.pth, .pt, .ckpt, .bin)")
    try:
        if file.suffix == ".safetensors":
            from safetensors.numpy import load_file

            return load_file(file)
        import torch
    except ModuleNotFoundError as error:
        raise UserError(f"{field}={path!r}: needs the package {error.name}; install it, or convert the file to .npz") from error
    try:
        loaded: Any = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(
            f"{field}={path!r}: torch cannot read it as plain weights ({str(error).splitlines()[0]}); convert it to .safetensors"
        ) from error
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None
    if state is None:
        raise UserError(f"{field}={path!r}: holds {type(loaded).__name__}, not named weights; save its state_dict")
    return {name: tensor.float().numpy() for name, tensor in state.items() if isinstance(tensor, torch.Tensor)}
