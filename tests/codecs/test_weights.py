"""Weight files that are broken, or that want to run code: one sentence, and nothing is run."""

import pickle

import numpy as np
import pytest

from tests.oracles import needs_torch, oracle
from vilg.codecs.weights import read
from vilg.types import UserError

torch = oracle("torch")


class Runs:
    """An object whose pickle calls a function when it is loaded."""

    def __reduce__(self):
        return print, ("run",)


@pytest.mark.parametrize(
    "suffix",
    [".npz", ".safetensors", *(pytest.param(s, marks=needs_torch) for s in (".pth", ".ckpt"))],
)
@pytest.mark.parametrize("content", [b"", b"junk" * 9])
def test_a_file_that_is_cut_off_is_told(tmp_path, suffix, content):
    (tmp_path / f"w{suffix}").write_bytes(content)
    with pytest.raises(
        UserError, match=r"weights='.*': cannot be read; it may be cut off or of another kind"
    ):
        read(str(tmp_path / f"w{suffix}"), "weights")


def test_code_in_a_file_is_not_run(tmp_path, capsys):
    (tmp_path / "w.pth").write_bytes(pickle.dumps({"a": Runs()}))
    torch.save({"a": Runs()}, tmp_path / "v.pth")
    for name in ("w.pth", "v.pth"):
        with pytest.raises(UserError, match=f"weights='.*{name}'") as caught:
            read(str(tmp_path / name), "weights")
        assert "weights_only" not in str(caught.value) and "\n" not in str(caught.value)
    assert "run" not in capsys.readouterr().out


def test_arrays_come_back(tmp_path):
    wanted = {"a": np.arange(6, dtype=np.float32).reshape(2, 3)}
    np.savez(tmp_path / "w.npz", **wanted)
    torch.save({"state_dict": {"a": torch.from_numpy(wanted["a"])}}, tmp_path / "w.pth")
    for name in ("w.npz", "w.pth"):
        np.testing.assert_array_equal(read(str(tmp_path / name), "weights")["a"], wanted["a"])
