"""What a model writes, and its scores: plain loops of transformers and rouge-score; batches and padding change nothing."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import scribes
import tiny
import torch
from rouge_score.rouge_scorer import RougeScorer

from vp_core.asking.batches import Batch, make_batches
from vp_core.asking.evaluate import evaluate, score
from vp_core.asking.sequences.target_tokens import TargetTokens
from vp_core.asking.sequences.writing import How, generated
from vp_core.asking.sequences.written import Sequences, ask_about
from vp_core.asking.tasks import TASKS, with_headline
from vp_core.comparing.losses import loss_and_score
from vp_core.comparing.sequences import write
from vp_core.ground.errors import VPError

TASK = TASKS["sequences"]


def asked(family, metric="rougeL", **more):
    model, tok = scribes.scribe(family, **more)
    data = scribes.pairs(model, tok)
    return model, tok, ask_about(model, tok, data, scribes.TARGETS, with_headline(TASK, metric))


def texts(model, tok, rows):
    return [text.strip() for text in tok.batch_decode(rows, skip_special_tokens=True)]


def plain_texts(model, tok, question):
    """One source at a time by transformers' own `generate`, told what the model's configuration already says."""
    longest, found = max(map(len, question.data.wanted)), []
    for ids in question.data.ids:
        rows = model.generate(
            torch.tensor([ids]), do_sample=False, max_new_tokens=longest, decoder_start_token_id=question.data.given[0][0]
        )
        found += texts(model, tok, rows)
    return found


@pytest.mark.parametrize("family", scribes.FAMILIES)
def test_perplexity_is_that_of_a_plain_loop(family):
    model, _, question = asked(family, "perplexity")
    assert type(question) is TargetTokens and question.task.metrics == ("perplexity", "token_accuracy")
    found = loss_and_score(model, question)
    losses, tokens = scribes.plain_losses(copy.deepcopy(model), question.data)
    assert found.score.value == pytest.approx(np.exp(np.average(losses, weights=tokens)), rel=1e-4)
    np.testing.assert_allclose(found.losses, losses, rtol=1e-4)
    assert found.loss == pytest.approx(np.log(found.score.value), rel=1e-6)
    assert found.score.n == found.score.total == len(scribes.SOURCES)
    assert found.score.low < found.score.value < found.score.high


@pytest.mark.parametrize("family", scribes.FAMILIES)
def test_nothing_is_written_for_perplexity(family, monkeypatch):
    model, _, question = asked(family, "perplexity")
    monkeypatch.setattr(type(model), "generate", None)
    assert score(model, question).others.keys() == {"token_accuracy"}


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("family", scribes.FAMILIES)
def test_rouge_is_that_of_texts_written_one_by_one(family, beams):
    model, tok, question = asked(family, beams=beams)
    plain = plain_texts(model, tok, question)
    assert len(set(plain)) > 5 and any(plain)
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    each = [scorer.score(target, text) for target, text in zip(scribes.TARGETS, plain, strict=True)]
    last = score(model, question)
    means = {name: np.mean([one[name].fmeasure for one in each]) for name in each[0]}
    assert last.metric == "rougeL" and last.value == pytest.approx(means["rougeL"], abs=1e-12) and last.value > 0.01
    assert last.others["rouge1"] == pytest.approx(means["rouge1"], abs=1e-12)
    assert last.others["rouge2"] == pytest.approx(means["rouge2"], abs=1e-12)
    assert last.others["perplexity"] == pytest.approx(score(model, asked(family, "perplexity")[2]).value, rel=1e-6)
    values = np.array([one["rougeL"].fmeasure for one in each])
    spread = values.std() / len(values) ** 0.5
    assert last.low == pytest.approx(last.value - 1.96 * spread, abs=0.4 * spread)
    assert last.high == pytest.approx(last.value + 1.96 * spread, abs=0.4 * spread)


@pytest.mark.parametrize("metric", ["rouge1", "rouge2"])
def test_another_rouge_may_be_the_headline(metric):
    model, _, question = asked("bart", metric)
    first, last = score(model, asked("bart")[2]), score(model, question)
    assert last.metric == metric and last.value == first.others[metric] and last.others["rougeL"] == first.value


@pytest.mark.parametrize("family", scribes.FAMILIES)
def test_batches_and_padding_change_nothing(family):
    model, _, question = asked(family)
    everything = range(len(question))
    (together,) = make_batches(question.data, everything, 10**6)
    assert together.inputs["attention_mask"].min() == together.inputs["decoder_attention_mask"].min() == 0
    with torch.inference_mode():
        whole = question.outputs(model, together)
        alone = torch.cat([question.outputs(model, make_batches(question.data, [i])[0]) for i in together.examples])
        wider = {
            name: torch.nn.functional.pad(v, (0, 5), value=0 if "mask" in name else 1) for name, v in together.inputs.items()
        }
        padded = question.outputs(model, Batch(wider, together.examples))
    assert (whole[:, 1:] == alone[:, 1:]).all() and (whole[:, 1:] == padded[:, 1:]).all()
    torch.testing.assert_close(whole, alone, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(whole, padded, rtol=1e-5, atol=1e-5)


def test_scores_run_and_say_at_the_end_which_texts_are_the_wanted_ones(monkeypatch):
    model, tok, question = asked("t5")
    plain = plain_texts(model, tok, question)
    aims = [text.upper() + "." if i % 3 == 0 else f"{text} indeed" for i, text in enumerate(plain)]
    monkeypatch.setattr(Sequences, "first", 4)
    question = replace(question, targets=aims)
    first, *_, last = evaluate(model, question)
    assert first.n == 4 and not first.final and not first.others and first.right is None
    assert last.right.tolist() == [i % 3 == 0 for i in range(len(aims))]
    assert 0.7 < last.value < 1


def test_models_that_say_so_draw_nothing():
    model, _, question = asked("bart")
    before = score(model, question)
    model.generation_config.update(do_sample=True, temperature=3.0, top_k=5, num_return_sequences=1, max_length=9)
    torch.manual_seed(1)
    assert score(model, question).value == before.value


def test_at_most_as_many_tokens_are_written_as_the_longest_target_has():
    model, _, question = asked("bart")
    model.generation_config.min_length = 500
    (batch,) = make_batches(question.data, range(4))
    rows = generated(model, batch.inputs, replace(question.how, most=6))
    assert [len(row) for row in rows] == [6] * 4 and question.how.most == max(map(len, question.data.wanted))


@pytest.mark.parametrize("family", scribes.FAMILIES)
def test_a_text_of_ones_own(family):
    model, tok, question = asked(family)
    longest = max(map(len, question.data.wanted))
    found = write(model, tok, scribes.SOURCES[0], tiny.POSITIONS, longest)
    assert found.text == plain_texts(model, tok, question)[0] and not found.cut
    assert "".join(found.pieces).strip() == found.text and len(found.losses) == len(found.pieces)
    (ids,) = generated(model, make_batches(question.data, [0])[0].inputs, How.of(model, tok, longest))
    with torch.no_grad():
        told = model.double()(input_ids=torch.tensor([question.data.ids[0]]), labels=torch.tensor([ids])).logits[0]
    expected = -told.log_softmax(1)[range(len(ids)), ids]
    shown = [i for i, token in enumerate(ids) if token not in tok.all_special_ids]
    np.testing.assert_allclose(found.losses, expected[shown], rtol=1e-3, atol=1e-4)
    assert write(model.float(), tok, " ".join(scribes.SOURCES), 9, 3).cut
    assert not write(model, tok, scribes.SOURCES[0], 9, 1).whole


def test_a_text_of_ones_own_is_refused_in_one_sentence():
    model, tok, _ = asked("bart")
    with pytest.raises(VPError, match="write a sentence"):
        write(model, tok, "  ", 20)
    with pytest.raises(VPError, match="ForConditionalGeneration"):
        write(tiny.classifier("bert"), tok, "a film", 20)
