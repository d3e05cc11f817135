"""The table of tasks, and how a model's labels are matched with the data's."""

import numpy as np
import pytest
import tiny
import torch

from vp_core.asking.examples import Examples
from vp_core.asking.labels import label_order
from vp_core.asking.metrics import METRICS
from vp_core.asking.tasks import TASKS, find_task
from vp_core.ground.errors import VPError
from vp_core.ground.names import ASKED
from vp_core.loading.load import LoadedModel
from vp_core.model.projections import find_projections
from vp_core.opening.classes import make_study
from vp_core.recipes import Recipe


def test_table():
    tokens = {name for name, task in TASKS.items() if task.tokens}
    assert tokens == {"text", "wikitext-2", "demo-text"}
    others = {name: task.kind for name, task in TASKS.items() if task.kind not in ("classes", "tokens")}
    assert others == {
        "squad": "spans", "squad2": "spans", "images": "images", "demo-images": "images", "sequences": "sequences",
        "tags": "tags", "own": "own",
    }  # fmt: skip
    assert {task.kind for task in TASKS.values()} == set(ASKED)
    assert set(TASKS) - tokens - set(others) == {
        "demo",
        "sst2",
        "mrpc",
        "stsb",
        "qnli",
        "rte",
        "cola",
        "qqp",
        "mnli",
        "mnli-mm",
        "wnli",
    }
    pairs = {name for name, task in TASKS.items() if len(task.text) == 2}
    assert pairs == {"mrpc", "stsb", "qnli", "rte", "qqp", "mnli", "mnli-mm", "wnli"}
    benchmark = {"cola": "matthews", "stsb": "spearman"}
    for name in tokens:
        task = TASKS[name]
        assert not (task.text or task.labels or task.regression or task.multi_label) and task.metric == "perplexity"
    for name, task in TASKS.items():
        if task.tokens or name in others:
            continue
        assert task.metric == benchmark.get(name, "accuracy")
        assert set(task.metrics) <= set(METRICS)
        assert task.regression == (name == "stsb")
        assert name == "demo" or len(task.hub_text) == len(task.text)
    # GLUE's numbers: 0 is entailment in the three inference tasks, 1 is the paraphrase.
    assert TASKS["mnli"].labels == ("entailment", "neutral", "contradiction")
    assert TASKS["wnli"].labels == ("not_entailment", "entailment")  # the other way round
    assert TASKS["rte"].labels == TASKS["qnli"].labels == ("entailment", "not_entailment")
    assert (TASKS["mrpc"].labels[1], TASKS["qqp"].labels[1], TASKS["sst2"].labels[1]) == ("equivalent", "duplicate", "positive")
    for name in ("../sst2", "sst2/", "superglue/rte", "glue", ""):
        with pytest.raises(VPError, match="sst2, mrpc, stsb"):
            find_task(name)


SPELT = {
    "sst2": ("SST-2", "sst-2", "glue/sst2", "GLUE/SST-2", "nyu-mll/glue/sst2"), "stsb": ("STS-B", "sts_b"), "cola": ("CoLA",),
    "mnli": ("MNLI", "mnli-m", "mnli_matched"), "mnli-mm": ("MNLI-MM", "mnli_mismatched", "glue/mnli-mm"), "wnli": ("WNLI",),
}  # fmt: skip


@pytest.mark.parametrize("name", SPELT)
def test_a_task_has_one_name_however_it_is_spelt(name):
    assert {find_task(one).name for one in (name, *SPELT[name])} == {name}


def order(task, *names):
    return label_order(tiny.name_labels(tiny.classifier("bert", len(names)), *names), TASKS[task])


def test_order_by_name():
    assert order("sst2", "negative", "positive") == (0, 1)
    assert order("sst2", "POSITIVE", "Negative") == (1, 0)
    assert order("mnli", "CONTRADICTION", "NEUTRAL", "ENTAILMENT") == (2, 1, 0)
    assert order("mrpc", "equivalent", "not-equivalent") == (1, 0)
    assert order("rte", "not_entailment", "entailment") == (1, 0)
    assert order("sst2", "NEG", "POS") == (0, 1)
    assert order("sst2", "LABEL_0", "LABEL_1") is None
    assert order("stsb", "LABEL_0") == (0,)


def test_refusals_name_what_is_wrong():
    with pytest.raises(VPError, match=r"sad, happy.*negative, positive"):
        order("sst2", "sad", "happy")
    with pytest.raises(VPError, match="entailment"):
        order("rte", "negative", "positive")
    with pytest.raises(VPError, match=r"2 labels.*has 3"):
        order("sst2", "negative", "neutral", "positive")
    with pytest.raises(VPError, match="regression"):
        order("stsb", "negative", "positive")
    with pytest.raises(VPError, match=r"has 1"):
        order("sst2", "LABEL_0")


def asked(names, flipped, texts_seed=4):
    """A study of a model with these label names on data that says what its outputs 0 and 1 say, or the opposite."""
    model, tok = tiny.make("bert")
    texts = tiny.sentences(80, texts_seed)
    labels = tiny.answers(model, tok, texts).argmax(dim=1).numpy()
    task = TASKS["sst2"]
    examples = Examples(task, [(t,) for t in texts], 1 - labels if flipped else labels, "here")
    tiny.name_labels(model, *names)
    return make_study(LoadedModel(model, tok, "tiny", "f", find_projections(model)), examples, examples)


def score(study):
    return study.score(Recipe(), 0).value


def test_swapped_names_are_mapped_so_that_the_score_is_right():
    assert score(asked(("negative", "positive"), flipped=False)) == 1.0
    assert score(asked(("positive", "negative"), flipped=True)) == 1.0
    assert score(asked(("positive", "negative"), flipped=False)) == 0.0  # names are believed
    assert score(asked(("LABEL_0", "LABEL_1"), flipped=False)) == 1.0


def test_unnamed_and_swapped_is_refused():
    with pytest.raises(VPError, match=r"fit the order positive, negative better.*--labels positive,negative or"):
        asked(("LABEL_0", "LABEL_1"), flipped=True)


def test_a_model_that_always_says_the_same_has_no_other_order():
    """One constant answer says nothing about which output means what: 50 of 80 wrong is a bad model, not a swapped one."""
    model, tok = tiny.make("bert", ("LABEL_0", "LABEL_1"))
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.copy_(torch.tensor([1.0, 0.0]))
    labels = np.array([0] * 30 + [1] * 50)
    examples = Examples(TASKS["sst2"], [(t,) for t in tiny.sentences(80)], labels, "here")
    study = make_study(LoadedModel(model, tok, "tiny", "f", find_projections(model)), examples, examples)
    assert score(study) == 30 / 80
