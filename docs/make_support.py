"""Makes docs/support.md by really doing everything once with a tiny model of every family: `python -m docs.make_support`.

What `vp check` says without running anything is held against it by tests/test_support.py.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import tiny  # noqa: E402

from vp_core.asking.evaluate import outputs_by_batch  # noqa: E402
from vp_core.asking.kinds.heads import head_of  # noqa: E402
from vp_core.check import Capability, units_refused  # noqa: E402
from vp_core.ground.errors import VPError  # noqa: E402
from vp_core.ground.names import WORD_EMBEDDINGS  # noqa: E402
from vp_core.model.families import FAMILIES  # noqa: E402
from vp_core.model.sharing import share  # noqa: E402
from vp_core.opening.study import open_study  # noqa: E402
from vp_core.recipes import RECIPES, Recipe  # noqa: E402
from vp_core.running.finetune import fine_tune, study_of  # noqa: E402
from vp_core.running.lessons import lessons_of  # noqa: E402
from vp_core.squeezing.dense_form import export_transformers  # noqa: E402
from vp_core.squeezing.folder import load_pruned, save_pruned  # noqa: E402
from vp_core.squeezing.onnx import export_onnx  # noqa: E402
from vp_core.study import Study  # noqa: E402
from vp_core.training.schedule import Schedule  # noqa: E402

PAGE = ROOT / "docs" / "support.md"
CLOSE = 1e-4
"""What float32 may round, as a share of the largest logit."""
ABOUT = """# What can be done with which family

Each cell was really done, with a tiny random model of the family.
`python -m docs.make_support` makes this page, and a test does it again.
`vp check MODEL` says the same of a model of your own before anything is measured.
A number stands for a reason below the table.

- **statistics**: mean and variance of every output neuron, covariances, gradients.
- **rows**: single rows removed as in the paper, their mean in the bias.
- **units**: rows that go together with the columns that read them, such as heads.
- **weights**: single weights, blocks, N:M and coresets, by every recipe there is for them.
- **best**: the recipe that loses least without fine-tuning.
- **squeeze**: the smaller dense model with the same answers; **save**: its folder, loaded again.
- **transformers**: the pruned model at its old shape, for `from_pretrained`; **ONNX**: the squeezed model in onnxruntime.
- **int8**: its score with all linear maps in 8 bits.
- **training**: `vp finetune` of the dense and of the squeezed model.

ViT is for those who bring their own batches to the library: all but best, ONNX, int8 and training.

## Text classifiers

"""
OF_WRITERS = """
## Language models

Decoder language models of these families are opened with a text (`--task text --data FILE`, or `wikitext-2`).

- **units**, **squeeze**: heads of keys and values go with all the heads of queries that read them.
- **transformers**: where a bias has no place for what a removed row leaves, the squeezed folder has.
- **generation**: the squeezed model continues a text, with a cache, by the same tokens as the pruned one.

"""
REASONS = """
## Reasons

"""


def family_study(family: str, place: Path) -> Study:
    """A tiny classifier of a family, from the folder that it was saved to, asked 24 word salads."""
    folder = tiny.save(place / family, *tiny.make(family))
    for split, seed in (("dev", 1), ("train", 2)):
        rows = [(text, i % 2) for i, text in enumerate(tiny.sentences(24, seed))]
        tiny.write_tsv(place / f"{family}-data" / "sst2" / f"{split}.tsv", ("sentence", "label"), rows)
    return open_study(str(folder), "sst2", place / f"{family}-data")


def writer_study(family: str, place: Path) -> Study:
    """A tiny language model of a family, from the folder that it was saved to, asked the tokens of a text of word salads."""
    folder = tiny.save(place / family, *tiny.writer(family))
    data = place / f"{family}-data"
    data.mkdir()
    for part, seed in (("test", 1), ("train", 2)):
        (data / f"{part}.txt").write_text("\n".join(tiny.sentences(24, seed)) + "\n", encoding="utf-8")
    return open_study(str(folder), "text", data, max_length=24, calibration=12)


def done(study: Study, place: Path) -> tuple[Capability, ...]:
    """What `vp_core.check.capabilities` says of the study's model, found out by doing it; `place` is a folder to write to."""
    writes = head_of(study.model) == "next tokens"
    return tuple(_tried(name, study, place) for name in _DONE if writes or name != "generation")


def _tried(name: str, study: Study, place: Path) -> Capability:
    try:
        return Capability(name, True, _DONE[name](study, place / name))
    except VPError as error:
        return Capability(name, False, str(error))


def _statistics(study: Study, _place: Path) -> str:
    assert all(torch.isfinite(m.m2).all() for m in study.statistics().moments.values())
    study.measured().covariances()
    study.measured().gradients()
    return ""


def _rows(study: Study, _place: Path) -> str:
    _logits(study, study.pruned(Recipe(), 0.3))
    return ""


def _units(study: Study, _place: Path) -> str:
    return units_refused(lambda kind: _logits(study, study.pruned(Recipe(units=(kind,)), 0.5)))


def _weights(study: Study, _place: Path) -> str:
    for recipe in RECIPES.values():
        if recipe.pattern:
            with_embeddings = replace(recipe, types=(*recipe.types, WORD_EMBEDDINGS)) if recipe.plain else recipe
            _logits(study, study.pruned(with_embeddings, recipe.pattern.sparsity or 0.5))
    return ""


def _best(study: Study, _place: Path) -> str:
    _logits(study, study.pruned(RECIPES["best"], 0.3))
    return ""


def _squeeze(study: Study, _place: Path) -> str:
    notes: dict[str, None] = {}
    for recipe in (Recipe(units=("heads",)), Recipe()):
        small = study.squeezed(recipe, 0.5)
        _same(_logits(study, small), _logits(study, study.pruned(recipe, 0.5)), CLOSE)
        notes |= dict.fromkeys(small.squeezed.notes)
    return " ".join(notes)


def _save(study: Study, place: Path) -> str:
    small = study.squeezed(Recipe(), 0.5)
    save_pruned(small, place, study.loaded.tokenizer)
    _same(_logits(study, load_pruned(place)), _logits(study, small), 0.0)
    return ""


def _transformers(study: Study, place: Path) -> str:
    pruned = study.pruned(Recipe(), 0.5)
    export_transformers(pruned, place, study.loaded.tokenizer)
    made_by = AutoModelForCausalLM if head_of(pruned) == "next tokens" else AutoModelForSequenceClassification
    again = made_by.from_pretrained(place, dtype=torch.float32).eval()
    again.config.pad_token_id = pruned.config.pad_token_id
    _same(_logits(study, again), _logits(study, pruned), 1e-6)
    return ""


def _onnx(study: Study, place: Path) -> str:
    place.mkdir()
    export_onnx(study.squeezed(Recipe(), 0.5), place / "model.onnx", study.loaded.tokenizer)
    return ""


def _int8(study: Study, _place: Path) -> str:
    score = study.score(Recipe(), 0.0, "int8")
    assert score.final
    return ""


def _training(study: Study, place: Path) -> str:
    task, data = study.question.task.name, place.parent / f"{study.model.config.model_type}-data"
    lessons = lessons_of(study, task, data)
    for one in (study, study_of(study, study.squeezed(Recipe(), 0.5), "squeezed")):
        fine_tune(one, lessons, Schedule(examples=4, precision="float32"))
    return ""


def _generation(study: Study, _place: Path) -> str:
    text = {"input_ids": torch.tensor([study.calibration.ids[0][:8]])}
    how = {"max_new_tokens": 16, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    both = (study.squeezed(Recipe(), 0.5), study.pruned(Recipe(), 0.5))
    small, large = (share(model, cast=torch.float64).generate(**text, **how) for model in both)
    assert small.shape == (1, 24) and torch.equal(small, large)
    return ""


_DONE: Mapping[str, Callable[[Study, Path], str]] = {
    "statistics": _statistics, "rows": _rows, "units": _units, "weights": _weights, "best": _best, "squeeze": _squeeze,
    "save": _save, "transformers": _transformers, "ONNX": _onnx, "int8": _int8, "training": _training,
    "generation": _generation,
}  # fmt: skip


def _logits(study: Study, model: PreTrainedModel) -> torch.Tensor:
    """(texts, outputs) in the order of the study's texts; of a language model (tokens, vocabulary), window after window."""
    if head_of(model) == "next tokens":
        with torch.no_grad():
            found = [(model(**batch.inputs).logits, batch.inputs["attention_mask"]) for batch in study.question.chunks()[0][1]]
        return torch.cat([logits[mask.bool()] for logits, mask in found])
    found = torch.empty(len(study.question), len(study.question.order))
    for batch, logits in outputs_by_batch(model, study.question, study.question.chunks()[0][1]):
        found[batch.examples] = logits
    return found


def _same(found: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    assert tiny.distance(found, expected) <= tolerance


Rows = Mapping[str, Sequence[Capability]]
"""Family → what was found."""


def page(classifiers: Rows, writers: Rows) -> str:
    """The page's text."""
    reasons: list[str] = []
    tables = [_table(rows, reasons) for rows in (classifiers, writers)]
    numbered = "\n".join(f"{i}. {why}" for i, why in enumerate(reasons, 1))
    return f"{ABOUT}{tables[0]}{OF_WRITERS}{tables[1]}{REASONS}{numbered}\n"


def _table(rows: Rows, reasons: list[str]) -> str:
    """A line for each family; reasons that are new join `reasons`."""
    names = [one.name for one in next(iter(rows.values()))]
    lines = ["| family | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for family, found in rows.items():
        cells = []
        for one in found:
            if one.why and one.why not in reasons:
                reasons.append(one.why)
            mark = "yes" if one.can else "no"
            cells.append(f"{mark} ({reasons.index(one.why) + 1})" if one.why else mark)
        lines.append(f"| {family} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def everything(
    study_of_family: Callable[[str, Path], Study], families: Sequence[str]
) -> Iterator[tuple[str, Sequence[Capability]]]:
    """(family, what was found) of these families, each really done."""
    for family in families:
        with tempfile.TemporaryDirectory() as place:
            yield family, done(study_of_family(family, Path(place)), Path(place))


CLASSIFIERS = [family for family, about in FAMILIES.items() if about.classifies_text]
WRITERS = [family for family, about in FAMILIES.items() if about.writes_text]

if __name__ == "__main__":
    both = dict(everything(family_study, CLASSIFIERS)), dict(everything(writer_study, WRITERS))
    PAGE.write_text(page(*both), encoding="utf-8")
