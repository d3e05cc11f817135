"""The field of labels in the app, and a page about a model that gives a text several of them."""

import json
import shlex
from dataclasses import replace

import pytest
import tiny
from pages import open_page, until

from app.web import caching
from app.web.downloads import how_to_load
from app.web.opening import in_app
from app.web.settings import Settings
from vp_core.asking.outputs import labels_option, parse_labels

pytestmark = pytest.mark.usefixtures("fresh_app")
TEXTS = tiny.sentences(40, 4)


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """The address of a tiny model with these names on texts with what it says, written so."""
    monkeypatch.setattr(caching, "HEAD_START", 3600.0)

    def made(names, write, kind=None):
        model, tok = tiny.make("bert", names)
        model.config.problem_type = kind
        lines = [
            json.dumps({"text": text, "label": write(logits)})
            for text, logits in zip(TEXTS, tiny.answers(model, tok, TEXTS), strict=True)
        ]
        (tmp_path / "own.jsonl").write_text("\n".join(lines), encoding="utf-8")
        folder = str(tiny.save(tmp_path / "model", model, tok))
        return {"model": folder, "task": str(tmp_path / "own.jsonl"), "text": "text", "sparsity": "0"}

    return made


def test_labels_of_the_address_name_the_outputs(asked):
    address = asked(("no", "yes"), lambda logits: ("bad", "good")[int(logits.argmax())])
    at = open_page("explore", **address)
    assert "none of the model's classes" in at.error[0].value and "“Labels” bad,good" in at.error[0].value
    (field,) = [box for box in at.text_input if box.label.startswith("Labels")]
    assert field.value == ""
    at = until(open_page("explore", **address, labels="bad,good"), lambda at: at.metric and at.metric[0].value == "100.0 %")
    assert any("model calls its outputs no, yes; by “Labels” they are bad, good" in note.value for note in at.info)
    settings = replace(Settings(), model=address["model"], task=address["task"], text="text", labels="bad,good")
    command = shlex.split(how_to_load(caching.study_of(settings), settings)[1])
    assert command[-2:] == ["--labels", "bad,good"]
    signs = replace(settings, labels="bad,good")
    command = shlex.split(how_to_load(caching.study_of(signs), replace(signs, labels="-,+"))[1])
    assert command[-1] == "--labels=-,+"


def test_a_page_about_several_labels(asked):
    address = asked(("x", "y", "z"), lambda logits: (logits > 0).int().tolist(), "multi_label_classification")
    at = until(open_page("explore", **address), lambda at: at.metric and at.metric[0].value == "100.0 %")
    assert at.metric[0].label == "subset accuracy without fine-tuning"
    assert any("micro F1 100.0 % · macro F1 100.0 %" in caption.value for caption in at.caption)


@pytest.mark.parametrize(
    "names", [("bad", "good"), ("very bad", "it's good"), ("-1", "1"), ("-a b", "+"), ("well, no", '"yes"')]
)
def test_what_a_sentence_proposes_can_be_typed_into_the_field(names):
    """As the field says it, not as a shell would need it."""
    said = in_app(f"Name them ({labels_option(names)}), or leave --label, --labels and --max-length out.")
    typed = said.removeprefix("Name them (“Labels” ").removesuffix(
        "), or leave “Label column”, “Labels” and “Longest text” out."
    )
    assert parse_labels(typed) == names
