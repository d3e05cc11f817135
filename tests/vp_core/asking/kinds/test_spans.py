"""Answers in a paragraph against a plain loop over every window and every span, question by question."""

from dataclasses import replace

import marking
import numpy as np
import pytest
import tiny
import torch

from vp_core.asking.batches import make_batches
from vp_core.asking.evaluate import evaluate, outputs_by_batch, score
from vp_core.asking.kinds.answers import golds_of, normalised, worth_of
from vp_core.asking.kinds.spans import LOSS, NONE, SCORE, Spans, as_spans, best_spans, bootstrapped, targets_of
from vp_core.asking.reading.squad import read_questions
from vp_core.asking.tasks import TASKS, with_headline
from vp_core.asking.words.paragraphs import windows_of
from vp_core.ground.errors import VPError


def question(tmp_path, family="bert", n=18, second=False, length=30, stride=None, metric=""):
    path = marking.write(tmp_path / "q.json", marking.squad(n, unanswered=0.4 if second else 0.0))
    task = with_headline(TASKS["squad2" if second else "squad"], metric)
    return Spans.make(windows_of(tiny.tokenizer(family), read_questions(path, task).asked, length, stride), task, second)


def by_hand(model, asked):
    """For each question (its answer, best sum, least sum for none): every window by itself, every span of it."""
    found, data = [], asked.data
    for q, one in enumerate(data.asked):
        best, none = (-np.inf, ""), np.inf
        for i in np.flatnonzero(data.of == q):
            batch = data.together([i])
            with torch.no_grad():
                answer = model(**batch.inputs)
            begins, ends = answer.start_logits[0].double().tolist(), answer.end_logits[0].double().tolist()
            none = min(none, begins[0] + ends[0])
            offsets, first = data.offsets[data.about[q]], data.first(i)
            for start in range(data.begins[i], data.ends[i]):
                for end in range(start, min(start + 30, data.ends[i])):
                    shift = first - data.begins[i]
                    sum_ = begins[start + shift] + ends[end + shift]
                    if sum_ > best[0]:
                        best = sum_, one.paragraph[offsets[start, 0] : offsets[end, 1]]
        said = "" if asked.unanswerable and none > best[0] else best[1]
        found.append((said.strip(), best[0], none))
    return found


@pytest.mark.parametrize("family", ["bert", "roberta", "t5"])
@pytest.mark.parametrize("second", [False, True], ids=["v1.1", "v2"])
def test_answers_and_scores_are_those_of_a_plain_loop(tmp_path, family, second):
    asked, model = question(tmp_path, family, second=second), marking.marker(family)
    answers, everything = asked.blank(), np.arange(len(asked))
    for batch, outputs in outputs_by_batch(model, asked, make_batches(asked.data, everything)):
        answers[batch.examples] = asked.answers(outputs).numpy()
    questions, best = asked.combined(answers, everything)
    expected = by_hand(model, asked)
    assert questions.tolist() == list(range(18)) and len(asked) > 18
    np.testing.assert_allclose(best[:, SCORE], [one[1] for one in expected], atol=1e-4)
    np.testing.assert_allclose(best[:, NONE], [one[2] for one in expected], atol=1e-4)
    assert [asked.said(q, row) for q, row in enumerate(best)] == [one[0] for one in expected]
    golds = [golds_of(one.golds, second) for one in asked.data.asked]
    golds[::3] = [(normalised(said),) for said, _, _ in expected[::3]]  # some are right
    asked = replace(asked, golds=tuple(golds))
    each = np.array([worth_of(said, gold, second) for (said, _, _), gold in zip(expected, golds, strict=True)])
    found = score(model, asked)
    assert 0 < each[:, 1].mean() < each[:, 0].mean()
    assert (found.value, found.others["exact_match"]) == pytest.approx(each.mean(axis=0))
    assert (found.n, found.total, found.metric) == (18, 18, "answer_f1")
    assert found.right.tolist() == (each[:, 1] == 1).tolist() and found.low <= found.value <= found.high


def test_either_metric_is_the_headline(tmp_path):
    model = marking.marker()
    f1, exact = (score(model, question(tmp_path, metric=metric)) for metric in ("answer_f1", "exact_match"))
    assert (exact.metric, exact.value, exact.others) == ("exact_match", f1.others["exact_match"], {"answer_f1": f1.value})
    assert exact.right.tolist() == f1.right.tolist()


def test_running_scores_are_of_whole_questions(tmp_path):
    asked = question(tmp_path, n=60)
    scores = list(evaluate(marking.marker(), replace(asked)))
    assert [one.n for one in scores] == [32, 60] and scores[0].right is None and not scores[0].others
    seen = np.concatenate([part for part, _ in asked.chunks()])
    assert sorted(seen.tolist()) == list(range(len(asked)))
    first, second = (set(asked.data.of[part].tolist()) for part, _ in asked.chunks())
    assert not first & second


def test_padding_and_company_change_no_answer(tmp_path):
    """Logits of padding and of question tokens are made the greatest of all: nobody looks at them."""
    asked, model = question(tmp_path), marking.marker()
    long = asked.data.together(range(len(asked)))
    alone = torch.cat([asked.outputs(model, asked.data.together([i])) for i in range(len(asked))])
    torch.testing.assert_close(asked.outputs(model, long), alone, atol=1e-4, rtol=1e-4)
    assert (asked.outputs(model, long)[:, 1:3] == alone[:, 1:3]).all()

    def shout(_module, _inputs, logits):
        logits = logits.clone()
        for row, i in enumerate(range(len(asked))):
            logits[row, 1 : asked.data.first(i)] = 1e3
            logits[row, asked.data.length(i) - 1 :] = 1e3
        return logits

    model.qa_outputs.register_forward_hook(shout)
    assert (asked.outputs(model, long)[:, 1:3] == alone[:, 1:3]).all()
    torch.testing.assert_close(asked.outputs(model, long)[:, NONE], alone[:, NONE], atol=1e-4, rtol=1e-4)


def test_overlap_changes_no_answer_of_paragraphs_that_fit(tmp_path):
    path = marking.write(tmp_path / "q.json", marking.squad(18, longest=18))
    questions, model = read_questions(path, TASKS["squad"]).asked, marking.marker()
    found = [
        score(model, Spans.make(windows_of(tiny.tokenizer("bert"), questions, 38, stride), TASKS["squad"], False))
        for stride in (None, 2, 9)
    ]
    assert len({(one.value, one.others["exact_match"], one.right.tobytes()) for one in found}) == 1


@pytest.mark.parametrize("longest", [1, 3, 30])
def test_the_best_span_is_the_best_of_all(longest):
    rng = np.random.default_rng(0)
    begins, ends = rng.normal(size=(2, 40, 25)).round(1)  # with ties
    first, tokens = rng.integers(1, 8, 40), rng.integers(1, 17, 40)
    found = np.array(best_spans(begins, ends, first, tokens, longest)).T
    for row in range(40):
        spans = [
            (begins[row, s] + ends[row, e], -s, -e)
            for s in range(first[row], first[row] + tokens[row])
            for e in range(s, min(s + longest, first[row] + tokens[row]))
        ]
        best, start, end = max(spans)
        assert found[row].tolist() == [best, -start, -end]


def test_positions_of_answers(tmp_path):
    """Of the answer's words; windows that cut it off, and questions without one, point at the first token."""
    asked = question(tmp_path, second=True, stride=4)
    data, tokenizer, held = asked.data, tiny.tokenizer("bert"), set()
    for i, (start, end) in enumerate(targets_of(data)):
        one, q = data.asked[data.of[i]], int(data.of[i])
        ids = tokenizer(one.golds[0], add_special_tokens=False)["input_ids"] if one.golds else []
        if end:
            held.add(q)
            assert data.ids(i)[start : end + 1] == ids
            shift = data.begins[i] - data.first(i)
            begin, stop = data.words(q, start + shift, end + shift)
            assert (one.paragraph[begin:stop], begin) == (one.golds[0], one.starts[0])
        elif one.golds:
            begins, ends = data.offsets[data.about[q]][data.begins[i] : data.ends[i]].T
            assert begins[0] > one.starts[0] or ends[-1] < one.starts[0] + len(one.golds[0])
    assert held == {q for q, one in enumerate(data.asked) if one.golds}  # with this overlap some window holds each whole
    assert any(not one.golds for one in data.asked)


def test_losses_are_cross_entropies(tmp_path):
    asked, model = question(tmp_path), marking.marker()
    batch = asked.data.together(range(len(asked)))
    outputs = asked.outputs(model, batch).numpy()
    for i in range(len(asked)):
        with torch.no_grad():
            alone = model(**asked.data.together([i]).inputs)
        targets = torch.from_numpy(asked.targets[i : i + 1])
        both = [
            torch.nn.functional.cross_entropy(logits.double(), target)
            for logits, target in zip((alone.start_logits, alone.end_logits), targets.T, strict=True)
        ]
        assert outputs[i, LOSS] == pytest.approx(float(sum(both)) / 2, abs=1e-4)
    assert asked.losses(np.arange(len(asked)), outputs).tolist() == outputs[:, LOSS].tolist()


def test_the_interval_is_a_bootstrap_over_questions():
    rng = np.random.default_rng(1)
    values = rng.choice([0, 0, 1, 1, 2 / 3, 0.4], 200)
    low, high = bootstrapped(values)
    again = rng.choice(values, (20000, 200)).mean(axis=1)
    np.testing.assert_allclose((low, high), np.percentile(again, [2.5, 97.5]), atol=0.006)
    assert bootstrapped(np.ones(5)) == (1.0, 1.0) and bootstrapped(values) == (low, high)


def test_outputs_that_are_not_finite_are_refused(tmp_path):
    model = marking.marker()
    with torch.no_grad():
        model.qa_outputs.bias[0] = torch.nan
    with pytest.raises(VPError, match="NaN or infinite"):
        score(model, question(tmp_path))


def test_other_questions_are_none(tmp_path):
    asked = question(tmp_path)
    assert as_spans(asked, "This") is asked
    with pytest.raises(VPError, match="This is there for question answering only, not for the task 'x'"):
        as_spans(type("Other", (), {"task": type("T", (), {"name": "x"})})(), "This")
