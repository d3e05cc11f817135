"""What can be done with which family: what `vp check` says, what the page says, and what is found by doing it."""

from pathlib import Path

import pictures
import pytest
import tiny

from docs.make_support import PAGE, done, done_with_head
from docs.support_page import SECTIONS, page
from docs.tiny_studies import STUDIES, families_of
from vp_core.check import capabilities
from vp_core.ground.errors import VPError
from vp_core.model.families import families_for
from vp_core.recipes import Recipe
from vp_core.squeezing.folder import load_pruned, save_pruned

MAKERS = {
    "next tokens": lambda family: tiny.writer(family)[0], "images": lambda family: pictures.seer(family)[0],
    "target tokens": lambda family: tiny.scribe(family)[0],
}  # fmt: skip


def test_the_page_says_what_is_said_of_a_model(loaded):
    assert set(loaded) == set(families_for("classes"))
    tables = {"classes": {family: capabilities(loaded[family].model) for family in families_of("classes")}}
    for kind, make in MAKERS.items():
        tables[kind] = {family: capabilities(make(family)) for family in families_of(kind)}
    assert PAGE.read_text(encoding="utf-8") == page(tables, families_of("spans"), families_of("tags"))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "family"), [(kind, family) for kind in SECTIONS for family in families_of(kind)])
def test_what_is_said_is_what_is_found_by_doing_it(kind, family, tmp_path):
    pytest.importorskip("onnxruntime")
    study = STUDIES[kind](family, tmp_path)
    assert capabilities(study.model) == done(study, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "family"), [(kind, family) for kind in ("spans", "tags") for family in families_of(kind)])
def test_answers_are_marked_and_words_tagged_by_the_families_that_the_page_names(kind, family, tmp_path):
    done_with_head(STUDIES[kind](family, tmp_path), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["spans", "tags"])
def test_what_is_said_of_another_head_is_what_is_found(kind, tmp_path):
    pytest.importorskip("onnxruntime")
    study = STUDIES[kind]("bert", tmp_path)
    assert capabilities(study.model) == done(study, tmp_path)


def test_of_a_squeezed_model(studies, tmp_path: Path):
    study = studies["bert"]
    small = load_pruned(save_pruned(study.squeezed(Recipe(), 0.5), tmp_path / "small"))
    said = {one.name: one for one in capabilities(small)}
    for name in ("statistics", "rows", "units", "best", "squeeze"):
        assert not said[name].can and said[name].why.startswith("This model is squeezed already")
    assert "shapes that transformers does not know" in said["transformers"].why
    assert all(said[name].can for name in ("save", "ONNX", "int8", "training"))


def test_without_the_extra(monkeypatch, studies):
    monkeypatch.setattr("vp_core.squeezing.onnx.EXTRA", ("no_such_package",))
    said = {one.name: one for one in capabilities(studies["bert"].model)}
    assert not said["ONNX"].can and "install the extra" in said["ONNX"].why


def test_a_refused_recipe_says_what_the_row_says(studies):
    """What stands in a row is what is said when it is asked for, before anything is measured."""
    study = studies["albert"]
    (row,) = (one for one in capabilities(study.model) if one.name == "best")
    with pytest.raises(VPError) as raised:
        study.ranking(Recipe(units=("values",), scope="measured"))
    assert str(raised.value) == row.why
