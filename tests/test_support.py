"""What can be done with which family: what `vp check` says, what the page says, and what is found by doing it."""

from pathlib import Path

import pytest
import tiny

from docs.make_support import PAGE, done, family_study, page, writer_study
from vp_core.check import capabilities
from vp_core.ground.errors import VPError
from vp_core.model.families import FAMILIES, families_for
from vp_core.recipes import Recipe
from vp_core.squeezing.folder import load_pruned, save_pruned


def test_the_page_says_what_is_said_of_a_model(loaded):
    assert set(loaded) == set(families_for("classes"))
    rows = {family: capabilities(loaded[family].model) for family in FAMILIES if family in loaded}
    writers = {family: capabilities(tiny.writer(family)[0]) for family in FAMILIES if family in families_for("next tokens")}
    assert PAGE.read_text(encoding="utf-8") == page(rows, writers)


@pytest.mark.slow
@pytest.mark.parametrize("family", families_for("classes"))
def test_what_is_said_is_what_is_found_by_doing_it(family, tmp_path):
    pytest.importorskip("onnxruntime")
    study = family_study(family, tmp_path)
    assert capabilities(study.model) == done(study, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("family", families_for("next tokens"))
def test_what_is_said_of_a_language_model_is_what_is_found(family, tmp_path):
    study = writer_study(family, tmp_path)
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
