"""The pages with what is asked otherwise than in classes of texts and tokens: marked answers, images, written texts, tags."""

import json

import pytest
import tiny
import torch
from pages import open_page, until

from app.web import caching
from vp_core.opening.images import predict_images
from vp_core.opening.study import open_study
from vp_core.recipes import Recipe

pytestmark = pytest.mark.usefixtures("fresh_app")
KINDS = ("spans", "images", "sequences", "tags")
VIEWS = ("compare", "weights", "sublayers", "training", "speed")


def _model(family, kind, **settings):
    torch.manual_seed(0)
    spread = {"init_std": 0.25} if family == "bart" else {"initializer_range": 0.25}
    layers = 1 if family == "bart" else 2
    sizes = tiny.sizes(family, tiny.HIDDEN, tiny.FFN, layers)
    return tiny.draw_biases(tiny.build(family, kind, vocab_size=420, **sizes, **spread, **tiny.NO_DROPOUT, **settings))


def _questions(seed):
    paragraphs = []
    for i, text in enumerate(tiny.sentences(12, seed)):
        answer = text.split()[len(text.split()) // 2]
        about = [
            {
                "id": f"{seed}-{i}",
                "question": text.split()[0],
                "answers": [{"text": answer, "answer_start": text.index(answer)}],
            }
        ]
        paragraphs.append({"context": text, "qas": about})
    return json.dumps({"version": "1.1", "data": [{"title": "words", "paragraphs": paragraphs}]})


def _spans(base):
    for split, seed in (("dev", 1), ("train", 2)):
        (base / f"{split}-v1.1.json").write_text(_questions(seed), encoding="utf-8")
    folder = tiny.save(base / "model", _model("bert", "ForQuestionAnswering"), tiny.tokenizer("bert"))
    return {"model": str(folder), "task": "squad", "data": str(base), "max_length": "32", "stride": "8"}


def _sequences(base):
    rows = list(zip(tiny.sentences(10, 1, 12), tiny.sentences(10, 2, 7), strict=True))
    tiny.write_tsv(base / "pairs.tsv", ["source", "target"], rows)
    folder = tiny.save(base / "model", *tiny.scribe("bart"))
    return {"model": str(folder), "task": "sequences", "data": str(base / "pairs.tsv"), "text": "source", "label": "target"}


def _tags(base):
    names = ("O", "B-PER", "I-PER", "B-LOC")
    for split, seed in (("test", 1), ("train", 2)):
        sentences = [text.split() for text in tiny.sentences(20, seed, 10)]
        lines = [line for words in sentences for line in (*(f"{word} {names[len(word) % 4]}" for word in words), "")]
        (base / f"{split}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    model = tiny.name_labels(_model("bert", "ForTokenClassification", num_labels=len(names)), *names)
    return {"model": str(tiny.save(base / "model", model, tiny.tokenizer("bert"))), "task": "tags", "data": str(base)}


@pytest.fixture(scope="module")
def addresses(tmp_path_factory):
    """What is asked → what names a tiny model and its task in the address of a page."""
    made = {"images": {"model": "demo-images", "task": "demo-images", "sentences": "60"}}
    for kind, make in (("spans", _spans), ("sequences", _sequences), ("tags", _tags)):
        made[kind] = make(tmp_path_factory.mktemp(kind))
    return {kind: address | {"calibration": "16"} for kind, address in made.items()}


@pytest.fixture
def no_curve(monkeypatch):
    monkeypatch.setattr(caching, "HEAD_START", 3600.0)


def exact(at):
    return until(at, lambda at: at.metric and at.metric[0].delta)


def answered(at):
    return until(at, lambda at: not any(one.value.startswith("Asking") for one in at.caption))


def html(at):
    return " ".join(one.proto.body for one in at.get("html"))


def said(at):
    return " ".join(one.value for one in (*at.markdown, *at.caption))


@pytest.mark.parametrize("kind", KINDS)
def test_explore_shows_the_librarys_score_in_the_words_of_its_kind(addresses, no_curve, kind):
    address = addresses[kind]
    given = {name: int(address[name]) for name in ("max_length", "stride", "sentences", "calibration") if name in address}
    more = {"text": address["text"].split(","), "label": address["label"]} if "text" in address else {}
    study = open_study(address["model"], address["task"], address.get("data"), **given, **more)
    expected = study.score(Recipe(), 0.2)
    at = answered(exact(open_page("explore", **address)))
    (score,) = at.metric
    names = {"spans": "F1", "images": "accuracy", "sequences": "ROUGE-L", "tags": "entity F1"}
    assert score.label == f"{names[kind]} without fine-tuning" and score.value == f"{100 * expected.value:.1f} %"
    others = {"spans": "exact match", "images": "top-5 accuracy", "sequences": "ROUGE-1", "tags": "word accuracy"}
    counted = {"spans": "questions", "images": "images", "sequences": "texts", "tags": "sentences"}[kind]
    examples = {"spans": "windows", "images": "images", "sequences": "texts", "tags": "sentences"}[kind]
    shown = said(at)
    assert f"{others[kind]} " in shown and f"{expected.n:,} evaluation {counted}" in shown
    assert f"of {len(study.calibration):,} training {examples}" in shown and "n = " in shown
    assert kind == "sequences" or f"n = {expected.n:,} {counted}" in shown
    (metric,) = [box for box in at.selectbox if box.label == "Metric"]
    assert metric.options[0].lower() == names[kind].lower() and not at.exception


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_page_opens(addresses, kind, view):
    more = {"length": "24"} if view == "speed" else {}
    at = open_page(view, **addresses[kind], **more)
    assert not at.exception and not at.error, [*at.exception, *at.error]


def test_a_paragraph_and_a_question_with_both_answers(addresses, no_curve):
    at = answered(exact(open_page("explore", **addresses["spans"])))
    shown = html(at)
    assert shown.count("<mark") >= 3 and "dense</mark>" in shown and "pruned</mark>" in shown
    (paragraph,), question = at.text_area, next(box for box in at.text_input if box.label.startswith("… and a question"))
    paragraph.set_value("<script>alert(1)</script> a b c")
    at = answered(question.set_value("what <b>?").run())
    assert not at.exception and not at.error
    assert "<script>" not in html(at) and "&lt;" in html(at)


def test_an_image_of_the_data_and_one_that_is_dropped(addresses, no_curve):
    at = answered(exact(open_page("explore", **addresses["images"])))
    table = html(at)
    assert "vp-seen" in table and "dense" in table and "pruned" in table and "%" in table
    study = open_study("demo-images", "demo-images", sentences=60, calibration=16)
    for model in (study.model, study.pruned(Recipe(), 0.2)):
        (shares,) = predict_images(study, model, [study.question.data.stored.picture(0)])
        assert f"<b>{100 * shares.max():.1f} %</b>" in table
    (number,) = [box for box in at.number_input if box.label.startswith("Try one")]
    at = answered(number.set_value(2).run())
    assert html(at) != table and not at.exception


def test_a_text_with_both_that_are_written(addresses, no_curve):
    at = answered(exact(open_page("explore", **addresses["sequences"])))
    shown = html(at)
    assert "<b>dense</b>" in shown and "<b>pruned</b>" in shown and "loss of a token" in shown and not at.exception


def test_a_sentence_with_the_tags_of_both(addresses, no_curve):
    at = answered(exact(open_page("explore", **addresses["tags"])))
    shown = html(at)
    assert shown.count("vp-tagged'") >= 2 and "<ruby" in shown and not at.exception
    (box,) = [box for box in at.text_input if box.label == "Try a sentence"]
    at = answered(box.set_value("<i>x</i> & y").run())
    assert "<i>x" not in html(at) and not at.exception


OWN = """
import torch
import tiny

def lengths(model, batch):
    return batch["attention_mask"].sum(dim=1).float()

def batches():
    tok = tiny.tokenizer("bert")
    return [dict(tok(tiny.sentences(4, seed), return_tensors="pt", padding=True)) for seed in range(3)]
"""


def test_a_metric_of_ones_own_is_there_only_if_the_command_line_named_it(folders, no_curve, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_of_a_test.py").write_text(OWN, encoding="utf-8")
    at = open_page("explore", model=str(folders["bert"]), task="own")
    assert "A metric of your own is no name" in at.error[0].value
    (task,) = [box for box in at.selectbox if box.label == "Task"]
    assert task.options.count("own") == 1  # what the address said, as any other that is none
    monkeypatch.setenv("VP_OWN", "own_of_a_test:lengths,own_of_a_test:batches")
    at = until(open_page("explore", model=str(folders["bert"])), lambda at: at.metric and at.metric[0].delta)
    assert at.session_state.visitor.settings.task == "own"
    (score,) = at.metric
    assert score.label == "lengths without fine-tuning" and "12 evaluation examples" in said(at)
    assert "has no box here" in said(at) and not at.exception and not at.error
    at = open_page("explore", model=str(folders["bert"]), metric="os:system")
    assert any("Unknown metric 'os:system'" in one.value for one in at.warning)
