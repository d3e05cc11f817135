"""Scores against scikit-learn on a plain loop; running chunks, shortcuts, stopping, and nothing left behind."""

import copy
import gc
import weakref
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import tiny
import torch
from cancelling import until_cancelled
from scipy.stats import spearmanr
from sklearn.metrics import accuracy_score

from vp_core.asking.batches import encode, make_batches
from vp_core.asking.evaluate import evaluate, outputs_by_batch, score
from vp_core.asking.kinds import question as module
from vp_core.asking.kinds.classification import Classification, first_token_only
from vp_core.asking.kinds.question import running_chunks
from vp_core.asking.metrics import interval
from vp_core.asking.tasks import TASKS
from vp_core.ground.errors import VPError
from vp_core.ground.work import Cancelled, work
from vp_core.model.sharing import share


@cache
def plain(study):
    """Predictions of a loop over single texts, in the data's order."""
    one = study.loaded
    texts = [one.tokenizer.decode(ids, skip_special_tokens=True) for ids in study.question.data.ids]
    return tiny.answers(one.model, one.tokenizer, texts).argmax(dim=1).numpy()


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_value_is_sklearns_on_a_plain_loop(studies, family):
    study = studies[family]
    said, labels = plain(study), study.question.labels
    assert 0.2 < said.mean() < 0.8  # the model does not always say the same
    found = score(study.model, study.question)
    assert found.value == accuracy_score(labels, said)
    assert found.right.tolist() == (labels == said).tolist()
    assert (found.n, found.total, found.final, found.metric) == (210, 210, True, "accuracy")
    assert (found.low, found.high) == interval("accuracy", labels, said)


def test_tiny_bert_is_right_as_often_as_the_data_was_made(studies):
    assert score(studies["bert"].model, studies["bert"].question).value == pytest.approx(180 / 210)  # every seventh is turned


@pytest.mark.parametrize("total", [1, 2, 31, 63, 64, 65, 96, 97, 128, 872, 1000, 5463])
def test_running_chunks_partition_the_data(total):
    chunks = running_chunks(total)
    assert sorted(np.concatenate(chunks).tolist()) == list(range(total))
    sizes = [len(c) for c in chunks]
    assert min(sizes) > 0
    assert sizes[0] == min(64, total)  # a first answer comes early
    assert total <= 96 or len(sizes) > 1
    if total > 200:
        assert chunks[0].tolist() != sorted(chunks[0].tolist())


def test_running_scores_are_those_of_what_has_been_seen(studies):
    study = studies["bert"]
    said, labels = plain(study), study.question.labels
    scores = list(evaluate(study.model, study.question))
    assert [s.n for s in scores] == list(np.cumsum([len(c) for c in running_chunks(210)]))
    seen = np.empty(0, dtype=int)
    for found, chunk in zip(scores, running_chunks(210), strict=True):
        seen = np.concatenate([seen, chunk])
        assert found.value == accuracy_score(labels[seen], said[seen])
        assert (found.low, found.high) == interval("accuracy", labels[seen], said[seen])
        assert found.low <= found.value <= found.high
        assert (found.right is not None) == found.final == (found.n == 210)


@pytest.mark.parametrize("tokens", [30, 200, 10_000])
def test_final_score_does_not_depend_on_the_batch_size(studies, monkeypatch, tokens):
    study = studies["bert"]
    usual = score(study.model, study.question)
    monkeypatch.setattr(module, "make_batches", lambda data, chunk, *_: make_batches(data, chunk, tokens))
    question, sizes, forward = replace(study.question), [], type(study.model).forward

    def counted(model, *arguments, **named):
        sizes.append(len(named["input_ids"]))
        return forward(model, *arguments, **named)

    monkeypatch.setattr(type(study.model), "forward", counted)
    found = score(study.model, question)
    assert sum(sizes) == 210 and (max(sizes) < 30 if tokens < 300 else max(sizes) > 60)
    assert (found.value, found.low, found.high, found.right.tolist()) == (
        usual.value,
        usual.low,
        usual.high,
        usual.right.tolist(),
    )


def test_batches_hold_every_example_once_within_the_limit(studies):
    data = studies["bert"].question.data
    batches = make_batches(data, range(210), 300)
    assert sorted(i for b in batches for i in b.examples.tolist()) == list(range(210))
    for batch in batches:
        assert batch.inputs["input_ids"].numel() <= 300
        for row, i in enumerate(batch.examples):
            real = batch.inputs["attention_mask"][row].bool()
            assert batch.inputs["input_ids"][row][real].tolist() == list(data.ids[i])
            assert (batch.inputs["input_ids"][row][~real] == data.pad_id).all()


@pytest.mark.parametrize("family", tiny.FIRST_TOKEN)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_first_token_shortcut_changes_logits_by_rounding_only(studies, family, dtype, tolerance):
    study = studies[family]
    model = copy.deepcopy(study.model).to(dtype)
    (batch,) = make_batches(study.question.data, range(40), 10**6)
    rows = []
    with torch.no_grad():
        whole = model(**batch.inputs).logits
        with first_token_only(model):
            last = [m for name, m in model.named_modules() if name.endswith(("output.dense", "ffn.lin2"))][-1]
            handle = last.register_forward_hook(lambda _m, _i, output: rows.append(output.shape[1]))
            short = model(**batch.inputs).logits
            handle.remove()
    assert rows == [1]  # and it does save the work
    assert ((short - whole).abs().max() / whole.abs().max()).item() <= tolerance
    assert tiny.hooks(model) == 0


@pytest.mark.parametrize("family", tiny.FAMILIES[len(tiny.FIRST_TOKEN) :])
def test_no_shortcut_where_the_classifier_reads_other_tokens(studies, family):
    with first_token_only(studies[family].model):
        assert tiny.hooks(studies[family].model) == 0


def test_bfloat16_is_near_and_leaves_the_original(studies):
    study = studies["bert"]
    before = tiny.sha(study.model)
    found = score(study.model, study.question, "bfloat16")
    assert abs(found.value - score(study.model, study.question).value) < 0.1
    cast = share(study.model, cast=torch.bfloat16)
    batches = make_batches(study.question.data, range(20))
    exact = torch.cat([logits for _, logits in outputs_by_batch(study.model, study.question, batches)])
    rough = torch.cat([logits for _, logits in outputs_by_batch(cast, study.question, batches)])
    assert 0 < (exact - rough).abs().max() < 0.25 * exact.abs().max()
    assert tiny.sha(study.model) == before
    with pytest.raises(VPError, match="float32, bfloat16"):
        next(evaluate(study.model, study.question, "int3"))


def test_swapped_outputs_are_read_by_order(studies):
    study = studies["bert"]
    flipped = replace(study.question, order=(1, 0))
    assert score(study.model, flipped).value == pytest.approx(1 - score(study.model, study.question).value)


def test_regression_scores_with_spearman():
    model, tok = tiny.make("bert", ("LABEL_0",))
    texts = [(a, b) for a, b in zip(tiny.sentences(90, 1, 8), tiny.sentences(90, 2, 8), strict=True)]
    said = tiny.answers(model, tok, texts)[:, 0].numpy()
    labels = said + np.random.default_rng(0).normal(0, said.std(), 90)
    question = Classification(encode(tok, texts, 40), labels, TASKS["stsb"], (0,))
    found = score(model, question)
    assert found.value == pytest.approx(spearmanr(labels, said).statistic, abs=1e-3)
    assert found.others["pearson"] == pytest.approx(np.corrcoef(labels, said)[0, 1], abs=1e-4)
    assert found.right is None and 0.3 < found.value < 1


def test_cancelled_ends(studies):
    study = studies["bert"]
    stop = []
    got = []
    with work(cancelled=lambda: bool(stop)), pytest.raises(Cancelled):
        for one in evaluate(study.model, study.question):
            got.append(one.n)
            stop.append(True)
    assert got == [64]
    with work(cancelled=lambda: True):
        assert until_cancelled(evaluate(study.model, study.question)) == []


def test_closing_early_leaves_no_hooks(studies):
    for family in tiny.FAMILIES:
        study = studies[family]
        running = evaluate(study.model, study.question)
        next(running)
        assert tiny.hooks(study.model) == 0  # not even while it runs
        running.close()
        assert tiny.hooks(study.model) == 0


def test_a_question_that_nobody_holds_is_let_go(studies):
    """A server opens many studies; a question and its batches must not outlive the last one who asked it."""
    question = replace(studies["bert"].question)
    score(studies["bert"].model, question)
    watched = weakref.ref(question)
    del question
    gc.collect()
    assert watched() is None


def test_nan_outputs_are_refused(studies):
    study = studies["bert"]
    broken = copy.deepcopy(study.model)
    broken.classifier.bias.data[0] = float("nan")
    with pytest.raises(VPError, match="NaN or infinite"):
        score(broken, study.question)
    assert tiny.hooks(broken) == 0
