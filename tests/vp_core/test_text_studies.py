"""Studies of models that predict tokens: what a score depends on, samples, notes, and what does not fit in one sentence."""

import language
import numpy as np
import pytest
import tiny

from vp_core.check import check_model, check_task
from vp_core.curves import CurveStore, known_point, score_of, sweep
from vp_core.ground.errors import VPError
from vp_core.loading.load import load_any
from vp_core.opening.study import open_study
from vp_core.recipes import Recipe
from vp_core.running.finetune import fine_tune
from vp_core.running.lessons import lessons_of
from vp_core.training.schedule import Schedule


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return language.save_all(tmp_path_factory.mktemp("language"))


@pytest.fixture(scope="module")
def opened(made):
    return lambda model="llama", data="text", length=24, **more: open_study(
        str(made.get(model, model)), "text", made.get(data, data), max_length=length, **more
    )


def refused(match, *given, opened, **more):
    with pytest.raises(VPError, match=match) as raised:
        opened(*given, **more)
    assert "\n" not in str(raised.value) and str(raised.value).endswith(".")


def test_a_score_is_known_by_what_it_depends_on(opened, made, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text(language.text(seed=9), encoding="utf-8")
    studies = [
        opened(), opened(stride=8), opened(length=32), opened(data=other), opened(most_tokens=200), opened("bert"),
    ]  # fmt: skip
    keys = [study.key(Recipe(), 0.0) for study in studies]
    assert len(set(keys)) == len(keys) and len({study.data_id for study in studies}) == len(keys)
    assert opened().key(Recipe(), 0.0) == keys[0] and opened().data_id == studies[0].data_id
    assert opened(calibration=5).key(Recipe(), 0.3) != studies[0].key(Recipe(), 0.3)
    assert opened(calibration=5).key(Recipe(), 0.0) == keys[0]


def test_most_tokens_takes_a_sample_of_windows(opened):
    whole, some = opened(data="texts"), opened(data="texts", most_tokens=200)
    assert len(some.question) == 9 < len(whole.question)
    assert set(map(tuple, some.question.data.ids)) < set(map(tuple, whole.question.data.ids))
    assert 180 < some.score(Recipe(), 0).n < 220
    assert any("random sample of 9 of" in note for note in some.notes) and not whole.notes
    assert len(opened(data="texts", most_tokens=10**6).question) == len(whole.question)
    assert some.calibration_id == whole.calibration_id


def test_a_study_says_what_it_is_in_a_line(opened, study):
    some = opened(data="texts", most_tokens=200)
    expected = f"'text': perplexity on 207 tokens, statistics on {len(some.calibration)} windows)"
    assert repr(some).startswith("Study('") and repr(some).endswith(expected)
    assert "'sst2': accuracy on 210 texts, statistics on 40 texts)" in repr(study)


def test_calibration_counts_windows_of_the_train_text(opened, made):
    study = opened(data="texts", calibration=7)
    assert len(study.calibration) == 7 and study.measured_on == "windows"
    text = (made["texts"] / "train.txt").read_text(encoding="utf-8")
    assert all(study.loaded.tokenizer.decode(row[1:]) in text for row in study.calibration.ids)
    assert "ask for more calibration windows" in " ".join(
        opened(calibration=2, length=10).warnings(Recipe(criterion="surgeon"))
    )
    assert "calibration windows" not in " ".join(study.warnings(Recipe()))


def test_curves_keep_points_of_tokens(opened, tmp_path):
    study, store = opened(data="texts"), CurveStore(tmp_path / "c.parquet")
    rows = list(sweep(study, [Recipe()], [0.0, 0.4], store=store))
    assert [row["metric"] for row in rows] == ["perplexity"] * 2 and rows[0]["right"] is None
    again = known_point(study, Recipe(), 0.4, "float32", CurveStore(tmp_path / "c.parquet"))
    found = score_of(again)
    assert found.value == rows[1]["value"] and found.final and set(found.others) == {"token_accuracy", "bits_per_byte"}


def test_check_says_what_is_asked(opened, made):
    rows = check_model(load_any(str(made["gpt2"])))
    assert rows[0].why == "gpt2, 2 layers." and all(row.can for row in rows)
    assert "outputs" not in {row.name for row in rows}
    assert check_task(opened()).why.startswith("text: next tokens, perplexity on 8")
    assert check_task(opened("bert")).why.startswith("text: masked tokens, masked_loss on 1")


def test_notes_on_what_is_odd_in_a_text(opened, made, tmp_path):
    odd = tmp_path / "odd.txt"
    odd.write_text(language.text().replace("film", "</s>"), encoding="utf-8")
    notes = " ".join(opened(data=odd).notes)
    assert "spells out special tokens (such as </s>, " in notes and "they are read as such" in notes
    assert "Statistics are taken on the text that is scored." in notes
    assert not any("special" in note for note in opened().notes)


def test_words_that_a_tokeniser_does_not_know(opened, tmp_path):
    model = tiny.build("bert", "ForMaskedLM", vocab_size=420, **tiny.sizes("bert", 32, 40, 2))
    folder = tiny.save(tmp_path / "model", model, tiny.tokenizer("bert"))
    some, none = tmp_path / "some.txt", tmp_path / "none.txt"
    some.write_text("the film was zzz " * 200), none.write_text("zzz yyy " * 200)
    assert "25% of the words in the text are unknown to the tokeniser." in opened(str(folder), some).notes
    refused("100% of the words in the text are unknown", str(folder), none, opened=opened)


@pytest.mark.parametrize(
    ("model", "more", "says"),
    [
        ("llama", {"stride": 24}, "stride 24 is not between 1 and the 23 tokens of a window"),
        ("bert", {"stride": 8}, "Masked words are predicted from both sides"),
        ("llama", {"most_tokens": 1}, "Perplexity needs tokens, and 1 are asked for"),
        ("llama", {"length": 41}, "Texts cannot be cut to 41 tokens.* choose from 4 to 40"),
        ("llama", {"length": 5}, "Windows cannot have 5 tokens: choose 9 or more"),
        ("llama", {"calibration": 1}, "at least 2 calibration texts"),
        ("llama", {"sentences": 5}, "The task text does not take --sentences: leave it out"),
        ("llama", {"text": ("sentence",)}, "The task text does not take --text: leave it out"),
        ("llama", {"data": None}, "Which text?"),
        ("demo", {}, "model 'demo' classifies texts .--task demo.: give a model of your own"),
    ],
)
def test_what_does_not_fit(opened, model, more, says):
    refused(says, model, opened=opened, **more)


def test_a_tokeniser_without_a_mask(opened, tmp_path):
    folder = tiny.save(tmp_path / "model", language.filler(), language.tokenizer(True))
    refused("no mask token", str(folder), opened=opened)


def test_a_tokeniser_without_padding_or_specials(opened, tmp_path):
    folder = tiny.save(tmp_path / "model", language.writer("gpt2"), language.tokenizer(pads=False))
    plain = tiny.save(tmp_path / "other", language.writer("gpt2"), language.tokenizer())
    scores = [opened(str(one)).score(Recipe(), 0) for one in (folder, plain)]
    assert scores[0].final and scores[0].n + 1 >= scores[1].n > 800


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_a_classifier_is_asked_for_no_tokens(opened, folders, family):
    refused(
        ".a .*ForSequenceClassification. classifies texts, and predicts no tokens of a text",
        str(folders[family]),
        opened=opened,
    )


def test_a_language_model_is_asked_for_no_classes(made, data):
    for name in ("llama", "bert"):
        with pytest.raises(VPError, match=r"predicts (masked )?tokens of a text, and is no text classifier: give it a text"):
            open_study(str(made[name]), "sst2", data)


def test_no_windows_of_sentences(folders, data):
    with pytest.raises(VPError, match="sst2 does not take --stride"):
        open_study(str(folders["bert"]), "sst2", data, stride=8)


@pytest.mark.parametrize("name", ["llama", "bert"])
def test_lessons_are_windows_of_the_train_text(opened, made, name):
    study = opened(name, "texts")
    lessons = lessons_of(study, "text", made["texts"])
    text = (made["texts"] / "train.txt").read_text(encoding="utf-8")
    skip = slice(1, -1 if name == "bert" else None)
    assert "".join(study.loaded.tokenizer.decode(row[skip]) for row in lessons.data.ids).count("film") == text.count("film")
    assert lessons.masked == (name == "bert") and not lessons.notes
    told = []
    schedule = Schedule(epochs=2, batch=8, lr=3e-3, precision="float32")
    tuned = fine_tune(study, lessons, schedule, tell=told.append, teacher=study.loaded, alpha=1.0)
    assert tuned.after.value < 0.97 * tuned.before.value and np.isfinite(tuned.loss)
    assert tuned.teacher["alpha"] == 1.0 and not any("remembers" in news for news in told)


def test_who_learns_what_is_scored_is_told(opened, made):
    study, told = opened(), []
    lessons = lessons_of(study, "text", made["text"])
    fine_tune(study, lessons, Schedule(steps=1, batch=2, precision="float32"), tell=told.append)
    assert any("learns the text that it is scored on" in news for news in told)
