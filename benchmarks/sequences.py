"""ROUGE and the time of writing, dense and pruned: block pruning's table 4 in our size.

`python -m benchmarks.sequences FOLDER`: the folder that `benchmarks.telegrams` wrote. A row a recipe and sparsity, and one that
is trained on with the dense model as its teacher; then the time of writing in the shape of BART base, with random weights,
half of the hidden neurons and value coordinates gone.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from transformers import BartConfig, BartForConditionalGeneration, PreTrainedModel

from benchmarks.generation import smaller
from benchmarks.measure import alternating
from vp_core.asking.batches import make_batches
from vp_core.asking.evaluate import score
from vp_core.asking.kinds.question import Score
from vp_core.asking.sequences.writing import How, generated
from vp_core.asking.sequences.written import Sequences
from vp_core.opening.study import open_study
from vp_core.recipes import RECIPES
from vp_core.running.finetune import fine_tune, study_of
from vp_core.running.lessons import lessons_of
from vp_core.squeezing.cost import parameters
from vp_core.squeezing.timing import all_cores, random_texts
from vp_core.study import Study
from vp_core.training.schedule import Schedule

ROWS = (("paper", 0.15), ("units mean", 0.3), ("best", 0.3), ("units mean", 0.5), ("best", 0.5), ("best", 0.7))
TUNED, SCHEDULE = ("best", 0.7), Schedule(steps=200, batch=48, lr=5e-4, precision="float32")
TIMED, REPEATS, NEW, SOURCES, LENGTH = 64, 5, 32, 8, 128


def write_some(model: PreTrainedModel, study: Study) -> None:
    """Writes about TIMED texts as a score does."""
    question = study.question
    assert isinstance(question, Sequences) and question.how is not None
    with torch.inference_mode():
        for batch in make_batches(question.data, range(TIMED)):
            generated(model, batch.inputs, question.how)


def show(name: str, found: Score, model: PreTrainedModel, dense: PreTrainedModel, times: Mapping[str, float]) -> None:
    """A row of the table."""
    one, two, longest = (found.others.get(rouge, found.value) for rouge in ("rouge1", "rouge2", "rougeL"))
    size, speed = parameters(model) / parameters(dense), times["dense"] / times["small"]
    print(f"| {name} | {size:.0%} | {100 * one:.1f} | {100 * two:.1f} | {100 * longest:.1f} | {100 * found.low:.1f} to "
          f"{100 * found.high:.1f} | {found.others['perplexity']:.3f} | {speed:.2f} × |", flush=True)  # fmt: skip


def table(folder: Path) -> None:
    """The rows of the small BART."""
    columns = {"text": ("clause",), "label": "telegram"}
    study = open_study(str(folder / "bart"), "sequences", folder / "pairs", **columns)
    print(
        "| recipe, sparsity | parameters | R1 | R2 | RL | interval of RL | perplexity | writing |\n"
        "|---|--:|--:|--:|--:|---|--:|--:|"
    )
    show("dense", score(study.model, study.question), study.model, study.model, {"dense": 1, "small": 1})

    def row(name: str, model: PreTrainedModel) -> None:
        times = alternating(
            {"dense": lambda: write_some(study.model, study), "small": lambda: write_some(model, study)}, REPEATS
        )
        show(name, score(model, study.question), model, study.model, times)

    for name, sparsity in ROWS:
        row(f"{name}, {sparsity:.0%}", study.squeezed(RECIPES[name], sparsity))
    small = study_of(study, study.squeezed(RECIPES[TUNED[0]], TUNED[1]), "small")
    lessons = lessons_of(study, "sequences", folder / "pairs", ("clause",), "telegram")
    tuned = fine_tune(small, lessons, SCHEDULE, teacher=study.loaded)
    row(f"{TUNED[0]}, {TUNED[1]:.0%}, then {SCHEDULE.steps} steps with a teacher", tuned.model)


def in_the_shape_of_bart_base() -> None:
    """The time of writing NEW tokens about SOURCES texts, random weights."""
    torch.manual_seed(0)
    model = BartForConditionalGeneration(BartConfig(
        d_model=768, encoder_layers=6, decoder_layers=6, encoder_attention_heads=12, decoder_attention_heads=12,
        encoder_ffn_dim=3072, decoder_ffn_dim=3072, vocab_size=50265,
    )).eval()  # fmt: skip
    model.generation_config.min_length = NEW
    small, inputs = smaller(model, ("ffn neurons", "values")), random_texts(model.config, SOURCES, LENGTH)

    def write(one: PreTrainedModel) -> None:
        with torch.inference_mode():
            generated(one, inputs, How(2, NEW))

    with all_cores():
        times = alternating({"dense": lambda: write(model), "small": lambda: write(small)}, REPEATS)
    print(f"BART base's shape, {SOURCES} texts of {LENGTH} tokens, {NEW} written: {times['dense']:.2f} s, without half of the "
          f"hidden neurons and values {times['small']:.2f} s: {times['dense'] / times['small']:.2f} ×", flush=True)  # fmt: skip


if __name__ == "__main__":
    table(Path(sys.argv[1]))
    in_the_shape_of_bart_base()
