"""Whatever a model raises is one sentence that names the model and the text; what is meant for somebody passes."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch

from vp_core.asking.batches import Batch, encode, make_batches
from vp_core.asking.evaluate import outputs_by_batch
from vp_core.asking.forward import forward, told
from vp_core.asking.kinds.classification import Classification
from vp_core.asking.tasks import TASKS
from vp_core.carry_out import Stage
from vp_core.ground.errors import VPError
from vp_core.ground.work import Cancelled, Enough
from vp_core.measuring.function_norms import collect_norms
from vp_core.measuring.measured import Measured
from vp_core.measuring.statistics import collect
from vp_core.squeezing.timing import time_forward
from vp_core.training.loop import train
from vp_core.training.schedule import Lessons, Schedule

TEXTS = [
    ("a film",),
    ("dull plot and a great meal",),
    ("I liked the hotel",),
    ("they hated the \x1b[31mplot, " + "every page " * 9,),
]
SENTENCE = r"failed on the text 'I liked the hotel' \(index out of range in self\): check that its tokeniser .* weights\.$"


def sst2(data):
    """SST-2's question about other texts."""
    return Classification(data, np.arange(len(data)) % 2, TASKS["sst2"], (0, 1))


@pytest.fixture
def failing(loaded):
    """(a BERT whose embedding lacks the token "liked", texts of which one has it)."""
    model = copy.deepcopy(loaded["bert"].model)
    data = encode(loaded["bert"].tokenizer, TEXTS, 30)
    liked = loaded["bert"].tokenizer.convert_tokens_to_ids("liked")
    assert any(liked in ids for ids in data.ids)
    pairs = [(ids.index(liked), i) for i, ids in enumerate(data.ids) if liked in ids]
    assert [i for _, i in pairs] == [2]
    rows = [[token if token != liked else 10_000 for token in ids] for ids in data.ids]
    return model, replace(data, ids=rows)


def test_everywhere_a_model_runs(failing):
    model, data = failing
    batches = make_batches(data, range(4))
    lessons = Lessons.make(data, np.array([0, 1, 0, 1]), TASKS["sst2"], (0, 1))
    stage = Stage(Measured(model, data, "m", "d"))
    for run in (
        lambda: list(outputs_by_batch(model, sst2(data), batches)),
        lambda: collect(model, batches),
        lambda: collect_norms(model, batches),
        stage.measured.covariances,
        lambda: train(copy.deepcopy(model).requires_grad_(True), lessons, Schedule(precision="float32")),
    ):
        with pytest.raises(VPError, match=SENTENCE) as caught:
            run()
        assert model.name_or_path in str(caught.value) and "\n" not in str(caught.value)


class Breaks(torch.nn.Module):
    """Raises an error for batches with at least so many rows."""

    name_or_path = ""

    def __init__(self, error, rows=1):
        super().__init__()
        self.error, self.rows = error, rows

    def forward(self, input_ids, attention_mask):
        if len(input_ids) >= self.rows:
            raise self.error
        return input_ids


def batch(texts=TEXTS):
    ids = torch.arange(12).view(4, 3)
    return Batch({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, np.arange(4) + 10, texts)


def test_the_text_is_shown_on_one_line_and_not_whole():
    error = RuntimeError("\x1b[96mNo such thing.\x1b[0m\nand more")
    with pytest.raises(VPError, match=r"^The model 'Breaks' failed on the text 'a film' \(No such thing\): check"):
        forward(Breaks(error), batch())
    with pytest.raises(VPError, match=r"text 'they hated the \[31mplot, every page[^']{20,40}…' \("):
        forward(Breaks(error), batch([TEXTS[3]] * 4))
    with pytest.raises(VPError, match=r"text number 11 \("):
        forward(Breaks(error), batch(()))
    with pytest.raises(VPError, match=r"failed on 4 texts together, of which one is 'a film'"):
        forward(Breaks(error, rows=2), batch())


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")])
def test_memory(error):
    with pytest.raises(VPError, match=r"not enough memory to run the model 'Breaks' on 4 texts of 3 tokens together: take"):
        forward(Breaks(error), batch())


@pytest.mark.parametrize("error", [Cancelled(), Enough(), VPError("As it is.")])
def test_what_is_meant_for_somebody_passes(error):
    with pytest.raises(type(error)) as caught:
        forward(Breaks(error), batch())
    assert caught.value is error


def test_speed(loaded):
    model = copy.deepcopy(loaded["bert"].model)
    model.bert.embeddings.word_embeddings = torch.nn.Embedding(3, tiny.HIDDEN)
    with pytest.raises(VPError, match=r"failed on the text number 1 \(index out of range"):
        list(time_forward({"one": model}, 2, 5, 1))


@pytest.mark.parametrize("family", tiny.READS_END)
def test_texts_with_several_ends_are_answered_as_one_at_a_time(loaded, family):
    """BART and T5 read the last end token and refuse a batch whose texts have different numbers of it."""
    one = loaded[family]
    texts = [
        (t,) for t in (*tiny.sentences(9, seed=3), "a </s> film", "dull </s> plot </s> and", "</s> the meal", "great </s>")
    ]
    data = encode(one.tokenizer, texts, 30)
    assert len({ids.count(2) for ids in data.ids}) == 3
    expected = tiny.answers(one.model, one.tokenizer, texts)
    found = torch.empty_like(expected)
    for part, logits in outputs_by_batch(one.model, sst2(data), make_batches(data, range(13))):
        found[part.examples] = logits
    assert tiny.distance(found, expected) <= 1e-5
    lessons = Lessons.make(data, np.arange(13) % 2, TASKS["sst2"], (0, 1))
    model = copy.deepcopy(one.model).requires_grad_(True)
    assert 0 < train(model, lessons, Schedule(precision="float32", batch=13)) < 10


def test_a_mini_batch_in_parts_has_the_loss_of_the_whole(loaded):
    """BERT takes any texts together: in parts its loss and its steps are the same."""
    data = encode(loaded["bert"].tokenizer, [(t,) for t in tiny.sentences(12, seed=4)], 30)
    apart = type(data)(
        data.ids, data.type_ids, data.pad_id, 0, 30, data.texts, end_id=loaded["bert"].tokenizer.convert_tokens_to_ids("the")
    )
    assert len(make_batches(apart, range(12), 10**6)) > 1 == len(make_batches(data, range(12), 10**6))
    found = []
    for texts in (data, apart):
        torch.manual_seed(0)
        model = tiny.transformer("bert", vocab_size=420, num_labels=2).float().requires_grad_(True)
        lessons = Lessons.make(texts, np.arange(12) % 2, TASKS["sst2"], (0, 1))
        found.append((train(model, lessons, Schedule(precision="float32", batch=12, epochs=2)), model))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            torch.OutOfMemoryError(
                "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.10 GiB of which 1.25 GiB is "
                "free. Process 1 has 77 GiB memory in use."
            ),
            "(20.00 GiB more were needed, 1.25 GiB were free)",
        ),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB). Tried to allocate 512.00 MiB."), "(512.00 MiB more"),
        (MemoryError(), "tokens together: take shorter texts"),
    ],
)
def test_memory_that_was_needed_is_told(error, says):
    model, batch = tiny.classifier("bert"), Batch({"input_ids": torch.ones(2, 3, dtype=torch.long)}, np.arange(2))
    with pytest.raises(VPError) as error_told, told(model, batch):
        raise error
    assert says in str(error_told.value) and str(error_told.value).startswith("There was not enough memory")
