"""Makes docs/support.md by really doing everything once with a tiny model of every family: `python -m docs.make_support`.

What `vp check` says without running anything is held against it by tests/test_support.py.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
)

from docs.support_page import SECTIONS, page
from docs.tiny_studies import ROOT, STUDIES, data_of, families_of, tiny
from vp_core.asking.kinds.heads import head_of
from vp_core.check import Capability, units_refused
from vp_core.ground.errors import VPError
from vp_core.ground.names import WORD_EMBEDDINGS
from vp_core.model.sharing import share
from vp_core.recipes import RECIPES, Recipe
from vp_core.running.finetune import fine_tune, study_of
from vp_core.running.lessons import lessons_of
from vp_core.squeezing.dense_form import export_transformers
from vp_core.squeezing.folder import load_pruned, save_pruned
from vp_core.squeezing.onnx import export_onnx
from vp_core.study import Study
from vp_core.training.schedule import Schedule

PAGE = ROOT / "docs" / "support.md"
CLOSE = 1e-4
"""What float32 may round, as a share of the largest logit."""
OF_A_HEAD = ("statistics", "rows", "squeeze", "save", "int8", "training")
"""What is done with models that mark answers or tag words."""
_MADE_BY = {
    "classes": AutoModelForSequenceClassification, "next tokens": AutoModelForCausalLM,
    "images": AutoModelForImageClassification, "target tokens": AutoModelForSeq2SeqLM,
    "spans": AutoModelForQuestionAnswering, "tags": AutoModelForTokenClassification,
}  # fmt: skip


def done(study: Study, place: Path) -> tuple[Capability, ...]:
    """What `vp_core.check.capabilities` says of the study's model, found out by doing it; `place` is a folder to write to."""
    writes = head_of(study.model) in ("next tokens", "target tokens")
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
            with_words = recipe.plain and kind_of(study) != "images"
            with_embeddings = replace(recipe, types=(*recipe.types, WORD_EMBEDDINGS)) if with_words else recipe
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
    save_pruned(small, place, study.loaded.reader)
    _same(_logits(study, load_pruned(place)), _logits(study, small), 0.0)
    return ""


def _transformers(study: Study, place: Path) -> str:
    pruned = study.pruned(Recipe(), 0.5)
    export_transformers(pruned, place, study.loaded.reader)
    again = _MADE_BY[kind_of(study)].from_pretrained(place, dtype=torch.float32).eval()
    again.config.pad_token_id = getattr(pruned.config, "pad_token_id", None)
    _same(_logits(study, again), _logits(study, pruned), 1e-6)
    return ""


def _onnx(study: Study, place: Path) -> str:
    place.mkdir()
    export_onnx(study.squeezed(Recipe(), 0.5), place / "model.onnx", study.loaded.reader)
    return ""


def _int8(study: Study, _place: Path) -> str:
    score = study.score(Recipe(), 0.0, "int8")
    assert score.final
    return ""


def _training(study: Study, place: Path) -> str:
    columns = {"text": ["source"], "label": "target"} if study.question.task.kind == "sequences" else {}
    lessons = lessons_of(study, study.question.task.name, data_of(place.parent), **columns)
    for one in (study, study_of(study, study.squeezed(Recipe(), 0.5), "squeezed")):
        fine_tune(one, lessons, Schedule(examples=4, precision="float32"))
    return ""


def _generation(study: Study, _place: Path) -> str:
    read = study.question.data.together([0]).inputs["input_ids"][:, :8]
    how = {"max_new_tokens": 16, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    both = (study.squeezed(Recipe(), 0.5), study.pruned(Recipe(), 0.5))
    small, large = (share(model, cast=torch.float64).generate(input_ids=read, **how) for model in both)
    assert small.shape[1] > 16 and torch.equal(small, large)
    return ""


_DONE: Mapping[str, Callable[[Study, Path], str]] = {
    "statistics": _statistics, "rows": _rows, "units": _units, "weights": _weights, "best": _best, "squeeze": _squeeze,
    "save": _save, "transformers": _transformers, "ONNX": _onnx, "int8": _int8, "training": _training,
    "generation": _generation,
}  # fmt: skip


def kind_of(study: Study) -> str:
    """By what a model puts out: a key of `docs.tiny_studies.STUDIES`."""
    return "images" if study.question.task.kind == "images" else head_of(study.model)


def _logits(study: Study, model: PreTrainedModel) -> torch.Tensor:
    """(examples, outputs) of a batch of the study's examples; where each token has some, (tokens, outputs) of all that are no
    padding, of answers those of their beginnings and ends."""
    (_, [batch, *_]), *_ = study.question.chunks()
    with torch.no_grad():
        inputs = dict(batch.inputs)
        found = model(**inputs)
    logits = torch.stack([found.start_logits, found.end_logits], dim=2) if kind_of(study) == "spans" else found.logits
    mask = inputs.get("decoder_attention_mask", inputs.get("attention_mask"))
    return logits[mask.bool()] if logits.dim() == 3 and mask is not None else logits


def _same(found: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    assert tiny.distance(found, expected) <= tolerance


def done_with_head(study: Study, place: Path) -> None:
    """What the table of further heads stands for; whatever fails is raised."""
    for name in OF_A_HEAD:
        _DONE[name](study, place / name)


def everything(kind: str) -> Iterator[tuple[str, Sequence[Capability]]]:
    """(family, what was found) of all families with models that put this out, each really done."""
    for family in families_of(kind):
        with tempfile.TemporaryDirectory() as place:
            yield family, done(STUDIES[kind](family, Path(place)), Path(place))


def main() -> None:
    """Do everything once, and write the page."""
    tables = {kind: dict(everything(kind)) for kind in SECTIONS}
    for kind in ("spans", "tags"):
        for family in families_of(kind):
            with tempfile.TemporaryDirectory() as place:
                done_with_head(STUDIES[kind](family, Path(place)), Path(place))
    PAGE.write_text(page(tables, families_of("spans"), families_of("tags")), encoding="utf-8")


if __name__ == "__main__":
    main()
