"""Reads other people's weight files as {name: array}, and never runs code that is in them.

Separate because the perceptual network and the VQGAN importer both need it, and torch is needed
only here, only for torch files."""

import pickle
import warnings
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from vilg.paths import local
from vilg.types import UserError


def read(path: str, field: str) -> dict[str, np.ndarray]:
    """The arrays of a .npz, .safetensors or torch file (.pth, .pt, .ckpt, .bin; read with
    weights_only), float32 where they are bf16.

    Errors: UserError that names `field`, the path and the remedy.
    """
    file = local(path)
    if not file.is_file():
        raise UserError(f"{field}={path!r}: there is no such file; give the path of a weight file")
    broken = (
        f"{field}={path!r}: cannot be read; it may be cut off or of another kind: fetch it again,"
        " or convert it to .safetensors"
    )
    if file.suffix == ".npz":
        try:
            with np.load(file, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        except Exception as error:  # whatever numpy and zipfile make of it
            raise UserError(broken) from error
    if file.suffix not in (".safetensors", ".pth", ".pt", ".ckpt", ".bin"):
        raise UserError(
            f"{field}={path!r}: unknown kind of file; give .npz, .safetensors or a torch file"
            " (.pth, .pt, .ckpt, .bin)"
        )
    if file.suffix == ".safetensors":
        try:
            return load_file(file)
        except Exception as error:  # SafetensorError, and what else is wrong with a file
            raise UserError(broken) from error
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise UserError(
            f"{field}={path!r}: needs the package {error.name}; install it, or convert the file to"
            " .npz"
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded: Any = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # its own words advise to run what is in the file
        code = isinstance(error, pickle.UnpicklingError) and "weights_only" in str(error).lower()
        raise UserError(
            f"{field}={path!r}: holds more than plain tensors; convert it to .safetensors"
            if code
            else broken
        ) from error
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None
    if state is None:
        raise UserError(
            f"{field}={path!r}: holds {type(loaded).__name__}, not named weights; save its"
            " state_dict"
        )
    return {
        name: tensor.float().numpy()
        for name, tensor in state.items()
        if isinstance(tensor, torch.Tensor)
    }
