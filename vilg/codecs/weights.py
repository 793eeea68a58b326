"""Reads published weight files as {name: array}, and never runs code that is in them.

Separate because the perceptual network and the importers both need it; torch is imported only here,
and only for torch files.
"""

import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
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
    file, where = local(path), f"{field}={path!r}"
    if not file.is_file():
        raise UserError(f"{where}: there is no such file; give the path of a weight file")
    if file.suffix not in READERS:
        raise UserError(
            f"{where}: unknown kind of file; give .npz, .safetensors or a torch file (.pth, .pt,"
            " .ckpt, .bin)"
        )
    return READERS[file.suffix](file, where)


def _broken(where: str) -> UserError:
    return UserError(
        f"{where}: cannot be read; it may be cut off or of another kind: fetch it again, or convert"
        " it to .safetensors"
    )


def _npz(file: Path, where: str) -> dict[str, np.ndarray]:
    try:
        with np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # numpy and zipfile raise many kinds
        raise _broken(where) from error


def _safetensors(file: Path, where: str) -> dict[str, np.ndarray]:
    try:
        return load_file(file)
    except Exception as error:  # SafetensorError, and others for a file that is cut off
        raise _broken(where) from error


def _torch(file: Path, where: str) -> dict[str, np.ndarray]:
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise UserError(
            f"{where}: needs the package {error.name}; install it, or convert the file to .npz"
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded: Any = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's own message advises to run the code in the file
        code = isinstance(error, pickle.UnpicklingError) and "weights_only" in str(error).lower()
        if code:
            message = f"{where}: holds more than plain tensors; convert it to .safetensors"
            raise UserError(message) from error
        raise _broken(where) from error
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None
    if state is None:
        raise UserError(
            f"{where}: holds {type(loaded).__name__}, not named weights; save its state_dict"
        )
    return {
        name: tensor.float().numpy()
        for name, tensor in state.items()
        if isinstance(tensor, torch.Tensor)
    }


READERS: dict[str, Callable[[Path, str], dict[str, np.ndarray]]] = {
    ".npz": _npz,
    ".safetensors": _safetensors,
    **dict.fromkeys((".pth", ".pt", ".ckpt", ".bin"), _torch),
}
