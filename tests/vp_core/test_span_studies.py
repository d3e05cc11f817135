"""Studies of question answering: what is opened and refused, keys, recipes of every family, smaller models that are kept."""

import marking
import numpy as np
import pytest
import tiny
import torch

from vp_core.check import check_model, check_task
from vp_core.ground.errors import VPError
from vp_core.model.families import families_for
from vp_core.opening.study import open_study
from vp_core.recipes import RECIPES
from vp_core.squeezing.folder import save_pruned


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    base = tmp_path_factory.mktemp("spans")
    marking.folder(base / "data")
    marking.folder(base / "second", unanswered=0.4)
    for family in marking.FAMILIES:
        marking.save(base / family, family)
    return base


def opened(place, family="bert", task="squad", data="data", **how):
    return open_study(str(place / family), task, place / data, **{"max_length": marking.LENGTH} | how)


def test_the_families_are_all_that_have_a_head():
    assert families_for("spans") == marking.FAMILIES


def test_what_is_opened(place):
    study = opened(place)
    assert (study.question.task.metrics, study.question.count(np.arange(len(study.question)))) == (
        ("answer_f1", "exact_match"),
        24,
    )
    assert (
        len(study.calibration) == 48 and study.calibration.longest <= marking.LENGTH and study.source.endswith("dev-v1.1.json")
    )
    assert "answer_f1 on 24 questions, statistics on 48 windows" in repr(study)
    found = check_task(study)
    assert found.can and "answer_f1 on 24 questions in" in found.why
    assert [one.name for one in check_model(study.loaded) if not one.can] == ["ONNX"]


def test_keys_tell_data_windows_and_versions_apart(place):
    studies = {
        "plain": opened(place),
        "shorter": opened(place, max_length=30),
        "stride": opened(place, max_length=30, stride=4),
        "few": opened(place, sentences=9),
        "headline": opened(place, metric="exact_match"),
        "version 2": opened(place, task="squad2", data="second"),
        "version 1 as 2": opened(place, task="squad2"),
        "calibration": opened(place, calibration=9),
    }
    keys = {name: study.key(RECIPES["paper"], 0.3) for name, study in studies.items()}
    assert len(set(keys.values())) == len(keys), keys
    assert opened(place).key(RECIPES["paper"], 0.3) == keys["plain"]
    assert studies["plain"].key(RECIPES["paper"], 0) == studies["calibration"].key(RECIPES["paper"], 0)
    assert any("version 1.1" in note for note in studies["version 1 as 2"].notes)
    assert any("random sample of 9 of 24 questions" in note for note in studies["few"].notes)


def test_version_2_counts_no_answers(place):
    """A model that never finds an answer is right exactly where there is none."""
    study = opened(place, task="squad2", data="second")
    with torch.no_grad():
        study.model.qa_outputs.weight.zero_()
    none = np.mean([not one.golds for one in study.question.data.asked])

    def first_token(_module, _inputs, logits):
        return torch.nn.functional.pad(logits[:, :1] * 0 + 1, (0, 0, 0, logits.shape[1] - 1))

    handle = study.model.qa_outputs.register_forward_hook(first_token)
    found = study.score(RECIPES["paper"], 0)
    handle.remove()
    assert 0 < none < 1 and found.value == found.others["exact_match"] == pytest.approx(none)


@pytest.mark.parametrize("name", ["paper", "best", "best refit", "units least squares", "weights best"])
@pytest.mark.parametrize("family", marking.FAMILIES)
def test_recipes(place, family, name):
    """Each recipe runs on each family, or says why not; what is squeezed answers as what is masked."""
    study = opened(place, family, max_length=30)
    if family == "albert" and name.startswith("best"):
        with pytest.raises(VPError, match="runs the same layer several times"):
            study.score(RECIPES[name], 0.3)
        return
    batch = study.question.data.together(range(6))
    masked, small = (make(RECIPES[name], 0.4) for make in (study.pruned, study.squeezed))
    one, other = (study.question.outputs(model, batch) for model in (masked, small))
    torch.testing.assert_close(one[:, [0, 3, 4]], other[:, [0, 3, 4]], atol=2e-3, rtol=2e-3)
    dense = study.question.outputs(study.model, batch)
    assert not torch.allclose(one[:, 0], dense[:, 0], atol=1e-3)
    assert 0 <= study.score(RECIPES[name], 0.4).value <= 1


def test_best_removes_what_matters_least(place):
    """At the same share of parameters its answers stay nearer to the dense model's than those of units at random."""
    study = opened(place, max_length=30)
    batch = study.question.data.together(range(len(study.question)))
    dense = study.question.outputs(study.model, batch)
    apart = [
        float((study.question.outputs(study.pruned(recipe, 0.3), batch) - dense)[:, [0, 3]].square().mean())
        for recipe in (RECIPES["best"], RECIPES["units mean"], RECIPES["units zero"])
    ]
    assert apart[0] < min(apart[1:])


def test_a_smaller_model_is_kept_and_opened_again(place, tmp_path):
    study = opened(place)
    small = study.squeezed(RECIPES["units least squares"], 0.4)
    save_pruned(small, tmp_path / "small", study.loaded.tokenizer, study.about(RECIPES["units least squares"], 0.4))
    again = open_study(str(tmp_path / "small"), "squad", place / "data", max_length=marking.LENGTH)
    batch = study.question.data.together(range(6))
    torch.testing.assert_close(again.question.outputs(again.model, batch), study.question.outputs(small, batch))


def test_models_that_mark_nothing_are_refused(place, tmp_path):
    for name, made, sentence in (
        ("classes", tiny.make("bert"), "marks no answers in a text"),
        ("decoder", (tiny.writer("gpt2")), "marks no answers in a text"),
    ):
        folder = tiny.save(tmp_path / name, *made)
        with pytest.raises(VPError, match=sentence):
            open_study(str(folder), "squad", place / "data")
    made = tiny.build("gpt2", "ForQuestionAnswering", **{"vocab_size": 420} | tiny.sizes("gpt2", 32, 40, 2))
    folder = tiny.save(tmp_path / "gpt2", made, tiny.tokenizer("gpt2"))
    with pytest.raises(VPError, match=r"marks no answers in a text here.*give a .*ForQuestionAnswering of one of albert"):
        open_study(str(folder), "squad", place / "data")


def test_options_that_do_not_go_with_it_are_refused(place):
    for option, value in (("text", ["question"]), ("most_tokens", 100), ("separator", ";")):
        with pytest.raises(VPError, match=f"does not take --{option.replace('_', '-')}"):
            opened(place, **{option: value})
    with pytest.raises(VPError, match="has no metric 'accuracy'"):
        opened(place, metric="accuracy")
