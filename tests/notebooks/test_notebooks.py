"""Every notebook runs from top to bottom in a fresh kernel, offline, and is committed without outputs."""

import json
from pathlib import Path

import nbformat
import pytest
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

from vp_core.ground.names import TYPES

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
SECONDS = 600
MOST_BYTES = 100_000

PRODUCES = {
    "01_first_look": {
        "shapes": ["ffn_in", "(1536, 384)"],
        "verify": ["the same to 1e-10"],
        "variances": ["attention_output", "layer"],
        "heat-map": ["heatmap"],
        "by-hand": ["equal"],
        "nothing-removed": ["bit-equal"],
        "slider": ["widget-view"],
        "curve": ["Accuracy against sparsity", "magnitude"],
        "intervals": ["points"],
        "replacement": ["zero", "points"],
        "sentence": ["dense", "positive ("],
    },
    "02_squeeze": {
        "masked": ["10,368", "14,526,338", "milliseconds"],
        **{type_: [f"{type_}: exact"] for type_ in TYPES},
        "dead_attention": ["all of attention_output: exact"],
        "dead_head": ["all value rows of a head: exact"],
        "whole": ["float32: logits", "float64: logits"],
        "shapes": ["attention_output", "384"],
        "sizes": ["14,526,338", "squeezed"],
        "cost": ["10,368 of 20,736 rows", "63.1% go", "36.9% are left"],
        "accuracy": ["dense: 0.9", "other answers", "50%"],
        "left": ["rows only 50.0 %, predicted 35.4 %, squeezed exactly 36.9 %", "What is left to multiply"],
        "time": ["masked", "squeezed", "by the FLOPs"],
        "keep": ["squeezed:", "bit-equal", "a study of its own: accuracy"],
    },
    "03_without_fine_tuning": {
        "load": ["dense: accuracy 0.9"],
        "constant": ["mean of the activation 0.9545, activation of the mean 0.0000"],
        "act-of-mean": ["squared error of the output"],
        "variances": ["rank correlation"],
        "pre-post": ["after, weighted"],
        "least-squares": ["lstsq, the formula and the library agree"],
        "errors": ["at 50 %: zero", "Layer 2"],
        "pruned": ["units of layer 2 stay; rebuilt"],
        "drift": ["behind the block 0.000000"],
        "refit": ["refit, first tokens", "squared error of a logit"],
        "three-units": ["unit 2 goes first"],
        "criteria": ["surgeon"],
        "basis": ["all heads turned", "principal: half of the coordinates"],
        "prices": ["[0.5, 1.5, 2.5, 3.5]"],
        "losses": ["surgeon, measured", "prices added up"],
        "allocation": ["% of the linear parameters go"],
        "ladder": ["units refit", "widget-view"],
    },
    "04_identity_prior": {
        "load": ["demo: accuracy 0.9", "twin: 0.9"],
        "residual": ["12 heads and the bias add up", "2.head.11, 2.attention, 2.ffn"],
        "identity": ["14,526,338 parameters became 13,344,770"],
        "by-hand": ["84 blocks"],
        "streamed": ["agree with the stored activations", "q95"],
        "distributions": ["demo-sn", "layer 0, head 0", "layer 5, FFN"],
        "spread": ["demo-sn, head: mean norms"],
        "power": ["by hand after 60 steps 9.3996"],
        "normalised": ["from 5.00 to 5.00", "from 4.99 to 5.01", "weights rescaled only"],
        "sigma": ["largest singular value"],
        "gate": ["t = 0.250, gradient of the output 50,000"],
        "gated": ["bit-equal to the dense model", "bit-equal to the model without FFNs"],
        "usage": ["0.head.0"],
        "explorer": ["widget-view"],
        "curves": ["function norm"],
        "first-to-go": ["FFNs are gone at 35 %"],
        "snip": ["iteration 2", "56 heads left"],
        "map": ["heatmap", "heads"],
        "saved": ["13,738,370", "checkpoint.safetensors, model, run.json"],
    },
    "05_language_models": {
        "load": ["dense: perplexity", "tokens", "bits_per_byte"],
        "by-hand": ["by hand", "nothing known: 1,536"],
        "variances": ["of 64 windows", "ffn_in", "512"],
        "heat-map": ["heatmap"],
        "slider": ["widget-view"],
        "recipes": ["Perplexity against sparsity", "units least squares"],
        "tokens": ["nats a token", "vp-token", "pruned by 20 %: probability"],
        "squeezed": ["1,869,504 parameters", "the squeezed model writes what the masked one writes"],
        "neurons": ["standard deviations", "where"],
    },
    "06_images_and_questions": {
        "load": ["dense: accuracy 0.9", "500 images", "top5_accuracy"],
        "images": ["17 tokens each", "data:image/png;base64"],
        "by-hand": ["as the library says"],
        "variances": ["4,352 tokens of 256 images", "ffn_in"],
        "heat-map": ["heatmap"],
        "slider": ["widget-view"],
        "curves": ["Accuracy against sparsity", "top-5 accuracy (dotted)"],
        "flips": [" lost, ", "figure style"],
        "both": ["vp-seen", "pruned by 40 %"],
        "worth": ["exact match 1, F1 1.000", "F1 0.800"],
        "marked": ["one person", "<mark"],
        "questions": ["vp finetune --task squad"],
        "own": ["certainty: 0."],
        "own-curve": ["Certainty against sparsity"],
    },
    "07_single_weights": {
        "load": ["dense: accuracy 0.9", "36 matrices, 10,616,832 weights"],
        "by-hand": ["176,947 of 589,824 weights go"],
        "accuracy": ["30% of the weights gone"],
        "torch": ["equal but for ties", "as bits"],
        "slider": ["widget-view"],
        "removed": ["30 % of all weights hold"],
        "scopes": ["global, 50 %"],
        "heads": ["the most pruned"],
        "wanda": ["of 2.ffn_in alike", "wanda"],
        "surgeon": ["masks by hand and by the library"],
        "solve": ["rows solved again"],
        "ladder": ["weights best"],
        "two-of-four": ["any half", "of the groups of four"],
        "coreset": ["192 of 384 columns stay", "equal to the library's"],
        "unbiased": ["in standard errors", "a single draw"],
        "seeds": ["four draws from"],
        "bytes": ["zeros: 38", "equal to the bit"],
        "time": ["units"],
        "overlay": ["by chance", "heatmap"],
    },
    "08_prune_while_training": {
        "load": ["dense: accuracy 0.9", "6,000 training sentences, 120 steps"],
        "meters": ["2.ffn_in: 1,536 neurons", "of 5 steps", "the same"],
        "cut": ["step 5: 922 of 9,216 rows of ffn_in go", "still zero", "gone of layer 2 after each cut"],
        "gradual": ["five cuts: accuracy", "one cut: accuracy", "Loss, score and share gone"],
        "film": ["most:", "heatmap", "after step"],
        "weights": ["magnitude", "movement", "60.0%"],
        "lines": ["movement"],
        "opened": ["as the run says", "dense: "],
    },
}
"""What must stand in the output of a cell, by notebook and by the cell's tag."""


class ThisPython(AsyncKernelManager):
    """Starts kernels of the interpreter that runs the tests, whatever kernels are installed."""

    @property
    def kernel_spec(self):
        return KernelSpec(**get_kernel_dict())


def run_of(path):
    """The parameter of a notebook, which any process may run."""
    return pytest.param(path, id=path.stem, marks=pytest.mark.slow)


@pytest.fixture(scope="module", params=map(run_of, NOTEBOOKS))
def executed(request, tmp_path_factory):
    """(name, the notebook after a run)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("VP_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("IPYTHONDIR", str(tmp_path_factory.mktemp("ipython")))
        notebook = nbformat.read(request.param, as_version=4)
        client = NotebookClient(
            notebook, timeout=SECONDS, kernel_manager_class=ThisPython, resources={"metadata": {"path": str(FOLDER)}}
        )
        client.execute()
    return request.param.stem, notebook


def test_there_are_notebooks():
    assert NOTEBOOKS and {path.stem for path in NOTEBOOKS} >= set(PRODUCES)


def test_cells_run_without_errors_and_warnings(executed):
    _, notebook = executed
    outputs = [o for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs]
    assert outputs
    assert [o for o in outputs if o.output_type == "error"] == []
    assert [o["text"] for o in outputs if o.get("name") == "stderr"] == []


def test_cells_produce_what_they_should(executed):
    name, notebook = executed
    tagged = {tag: cell for cell in notebook.cells for tag in cell.metadata.get("tags", [])}
    for tag, texts in PRODUCES.get(name, {}).items():
        output = json.dumps(tagged[tag].outputs)
        for text in texts:
            assert text in output, f"cell {tag!r} shows no {text!r}: {output[:500]}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}
    assert all(set(cell.metadata) <= {"tags"} for cell in notebook.cells)
    assert path.stat().st_size < MOST_BYTES
