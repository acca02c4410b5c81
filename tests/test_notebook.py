"""The notebook of the examples runs from top to bottom, and an interrupted run is saved."""

import queue
import time
from pathlib import Path

import nbformat
import pytest
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "examples" / "notebook.ipynb"


def texts(cell):
    """Everything that a cell printed, displayed or raised, as text and HTML."""
    found = []
    for output in cell.get("outputs", []):
        found += [output.get("text", ""), *output.get("data", {}).values(), *output.get("traceback", [])]
    return "\n".join(map(str, found))


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_the_notebook_runs_from_top_to_bottom(tmp_path):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shapes, trained, resumed, drawn, scored, mistaken = [
        texts(cell) for cell in notebook.cells if cell.cell_type == "code"
    ]
    assert "(256, 64, 64, 3)" in shapes
    assert "<progress " in trained
    assert "report.html" in trained
    assert trained.count("<img") == 1
    assert "resuming from run/checkpoints/step-00000064" in resumed
    assert drawn.count("<img") == 2
    assert "chance is 50 %" in scored
    assert int(scored.partition("%")[0]) > 60
    assert mistaken.strip() == "UserError: pretrain has no setting 'mask_ration'; did you mean 'mask_ratio'?"


CELL = """
import numpy as np, convnextv2
images = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
convnextv2.pretrain(images, "run", epochs=100_000, image_size=32, stem_stride=1, batch_size=8, decoder_dim=16,
                    depths=(1, 1, 1, 1), dims=(8, 8, 16, 16))
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_an_interrupted_cell_saves_the_run_and_says_so_in_one_line(tmp_path):
    manager, client = start_new_kernel(cwd=str(tmp_path))
    try:
        client.execute(CELL)
        said, end, is_running = [], time.monotonic() + 120, True
        while is_running and time.monotonic() < end:
            try:
                message = client.get_iopub_msg(timeout=1)
            except queue.Empty:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "error":
                said += content["traceback"]
            shown = str(content.get("data", ""))
            if kind in ("display_data", "update_display_data") and "<progress" in shown and "step 1/" not in shown:
                manager.interrupt_kernel()
            is_running = not (kind == "status" and content["execution_state"] == "idle" and said)
        assert len(said) == 1
        assert said[0].startswith("StoppedError: stopped by SIGINT; saved run/checkpoints/step-")
        assert list((tmp_path / "run" / "checkpoints").glob("step-*/model.safetensors"))
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
