"""experiments/tour.ipynb runs from top to bottom."""

import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from tests.flags import UNOPTIMIZED

TOUR = Path(__file__).parent.parent / "experiments" / "tour.ipynb"
HERE = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]


def run(notebook, folder: Path):
    """Executes the notebook in a folder, by the interpreter of this test."""
    from jupyter_client.manager import AsyncKernelManager

    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}})
    client.km = AsyncKernelManager()
    client.km.kernel_spec.argv = HERE
    client.execute()
    return notebook


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
    """The kernel's environment: this clone's vilg, and one device instead of the tests' eight."""
    monkeypatch.setenv("PYTHONPATH", str(TOUR.parent.parent))
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    monkeypatch.setenv("XLA_FLAGS", UNOPTIMIZED)
    assert os.environ["JAX_COMPILATION_CACHE_DIR"]


def texts(notebook, cell: str) -> str:
    """What a cell printed."""
    outputs = next(c.outputs for c in notebook.cells if c.id == cell)
    return "".join(o.get("text", "") or o.get("data", {}).get("text/plain", "") for o in outputs)


def pictures(notebook, cell: str) -> int:
    """How many pictures a cell shows."""
    outputs = next(c.outputs for c in notebook.cells if c.id == cell)
    return sum("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning")
def test_the_tour_runs(tmp_path):
    notebook = run(nbformat.read(TOUR, 4), tmp_path)
    assert texts(notebook, "load").startswith("<13 logged steps: step, time, ")
    shown = {cell: pictures(notebook, cell) for cell in ("loss", "sample", "strip", "guidance")}
    assert shown == {"loss": 1, "sample": 2, "strip": 1, "guidance": 1}
    lines = texts(notebook, "compare").splitlines()
    assert [line.split()[0] for line in lines] == ["diffusion", "transformer"]
    assert "nats of the picture's codes" in texts(notebook, "likelihood")
    for name in ("transformer", "diffusion"):
        assert (tmp_path / "runs" / "tour" / name / "checkpoints" / "120").is_dir()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning")
def test_a_cell_that_fails_is_seen(tmp_path):
    cells = [nbformat.v4.new_code_cell("import vilg\nvilg.load('none')")]
    with pytest.raises(CellExecutionError, match="holds no config.json"):
        run(nbformat.v4.new_notebook(cells=cells), tmp_path)


def test_the_tour_is_committed_without_outputs():
    notebook = nbformat.read(TOUR, 4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) == 9 and not any(cell.outputs or cell.execution_count for cell in code)
    nbformat.validate(notebook)
