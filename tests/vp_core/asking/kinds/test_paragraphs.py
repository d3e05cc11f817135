"""Questions with their paragraphs in windows, against what the tokeniser makes of both together."""

import marking
import numpy as np
import pytest
import tiny
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from vp_core.asking.reading.squad import read_questions
from vp_core.asking.tasks import TASKS
from vp_core.asking.words.paragraphs import STRIDE, windows_of
from vp_core.ground.errors import VPError


def asked(tmp_path, **how):
    return read_questions(marking.write(tmp_path / "q.json", marking.squad(**how)), TASKS["squad"]).asked


def of_pieces():
    """A tokeniser of unigrams as T5's: a space belongs to the word behind it, also before the first one."""
    letters = sorted({*"".join(tiny.WORDS), *"ABCDEFGHIJKLMNOPQRSTUVWXYZäé.,"})
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -3.0), *((c, -6.0) for c in letters)]
    pieces += [(f"▁{word.lower()}", -2.0) for word in tiny.WORDS]
    made = Tokenizer(models.Unigram(list(dict(pieces).items()), unk_id=2))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    made.post_processor = processors.TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=64
    )


TOKENISERS = {"bert": lambda: tiny.tokenizer("bert"), "roberta": lambda: tiny.tokenizer("roberta"), "unigrams": of_pieces}


@pytest.mark.parametrize("name", TOKENISERS)
@pytest.mark.parametrize("stride", [None, 3, 8])
def test_windows_are_those_of_the_tokeniser(tmp_path, name, stride):
    """transformers' own overflowing windows, whose `stride` is the overlap."""
    tokenizer, questions = TOKENISERS[name](), asked(tmp_path, n=9, longest=80)
    data = windows_of(tokenizer, questions, 30, stride)
    rows, segments, of, offsets = [], [], [], []
    for q, one in enumerate(questions):
        own = len(tokenizer(one.question, add_special_tokens=False)["input_ids"])
        room = 30 - own - tokenizer.num_special_tokens_to_add(pair=True)
        step = stride or min(STRIDE, room // 2)
        found = tokenizer(
            one.question, one.paragraph, truncation="only_second", max_length=30, stride=room - step,
            return_overflowing_tokens=True, return_offsets_mapping=True,
        )  # fmt: skip
        rows += found["input_ids"]
        segments += found.get("token_type_ids", [])
        of += [q] * len(found["input_ids"])
        for i, window in enumerate(found["offset_mapping"]):
            offsets.append([pair for pair, part in zip(window, found.sequence_ids(i), strict=True) if part == 1])
    assert [data.ids(i) for i in range(len(data))] == rows and data.of.tolist() == of and len(rows) > len(questions)
    assert max(map(len, rows)) == 30 == data.longest and [data.length(i) for i in range(len(data))] == list(map(len, rows))
    for i, expected in enumerate(offsets):
        mine = data.offsets[data.about[data.of[i]]][data.begins[i] : data.ends[i]]
        text = questions[data.of[i]].paragraph  # byte pairs: the space before a window's first word is or is not in its token
        assert [text[a:b].strip() for a, b in mine] == [text[a:b].strip() for a, b in expected]
        assert mine[:, 1].tolist() == [end for _, end in expected]
        assert data.ids(i)[data.first(i) : data.first(i) + len(expected)] == rows[i][-len(expected) - 1 : -1]
    batch = data.together(range(len(data)))
    assert batch.inputs["attention_mask"].sum(dim=1).tolist() == list(map(len, rows))
    if segments:
        assert [row[:n].tolist() for row, n in zip(batch.inputs["token_type_ids"], map(len, rows), strict=True)] == segments


@pytest.mark.parametrize("name", TOKENISERS)
def test_words_of_every_token_are_words_of_the_paragraph(tmp_path, name):
    """White space before and behind, and several spaces between words, shift nothing."""
    tokenizer = TOKENISERS[name]()
    content = marking.squad(3)
    paragraph = content["data"][0]["paragraphs"][0]
    paragraph["context"] = "  the bright   plot\n felt  awful "
    for one in paragraph["qas"]:
        one["answers"] = [{"text": "plot", "answer_start": 15}]
    (one, *_) = read_questions(marking.write(tmp_path / "q.json", content), TASKS["squad"]).asked
    data = windows_of(tokenizer, [one], 60)
    text, (begins, ends) = one.paragraph, data.offsets[0].T
    for word in ("the", "bright", "plot", "felt", "awful", "bright   plot", "plot\n felt  awful"):
        at = text.index(word)
        start, end = np.searchsorted(ends, at, side="right"), np.searchsorted(begins, at + len(word), side="left") - 1
        assert data.words(0, start, end) == (at, at + len(word))


def test_a_paragraph_is_tokenised_once(tmp_path):
    data = windows_of(tiny.tokenizer("bert"), asked(tmp_path, n=9), 30)
    assert len(data.questions) == 9 and len(data.paragraphs) == 3 and data.about.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_some_windows_alone(tmp_path):
    data = windows_of(tiny.tokenizer("bert"), asked(tmp_path, n=9), 30)
    some = np.arange(len(data))[2::3]
    part = data.at(some)
    assert [part.ids(i) for i in range(len(part))] == [data.ids(i) for i in some]
    assert [part.texts[i] for i in range(len(part))] == [data.texts[i] for i in some]
    assert part.facts() != data.facts() and len(part.parts()) <= len(data.parts())


def test_facts_tell_windows_apart(tmp_path):
    questions, tokenizer = asked(tmp_path, n=9), tiny.tokenizer("bert")
    facts = [windows_of(tokenizer, questions, *how).facts() for how in ((30,), (30, 5), (31,))]
    assert all(one != other for i, one in enumerate(facts) for other in facts[:i])
    assert windows_of(tokenizer, questions, 30).facts() == facts[0]


def test_what_is_refused(tmp_path):
    questions, tokenizer = asked(tmp_path, n=3), tiny.tokenizer("bert")
    with pytest.raises(VPError, match=r"The question '0-\d' has \d tokens, and leaves no room for its paragraph"):
        windows_of(tokenizer, questions, 12)
    for stride in (0, 31):
        with pytest.raises(VPError, match=f"The stride {stride} is not between 1 and the "):
            windows_of(tokenizer, questions, 30, stride)

    class Slow:
        is_fast = False

    with pytest.raises(VPError, match=r"does not say which characters its tokens are.*fast tokeniser"):
        windows_of(Slow(), questions, 30)
