"""Entity F1 against seqeval, and the question against a plain loop with transformers alone."""

import json
import warnings

import numpy as np
import pytest
import seqeval.metrics
import taggers
import tiny
import torch

from vp_core.asking.batches import make_batches
from vp_core.asking.evaluate import evaluate, score
from vp_core.asking.kinds.tags import Tags
from vp_core.asking.metrics import sums_interval
from vp_core.asking.reading.columns import Sentences
from vp_core.asking.tagging.aligned import align
from vp_core.asking.tagging.entities import Scheme, count_entities, names_entities
from vp_core.asking.tagging.names import fits_otherwise, names_of, numbers_of
from vp_core.asking.tasks import TASKS
from vp_core.ground.errors import VPError
from vp_core.model.families import families_for

IOBES = ("O", *(f"{letter}-{type_}" for letter in "BIES" for type_ in ("PER", "LOC", "MISC-X")), "B", "I", "E", "S")
ODD = ("O", "B-PER", "I-PER", "B-", "I-", "I-_", "E-O", "I-O", "I-É", "S--", "E--x")


def drawn(tags, n, seed, longest=14):
    rng = np.random.default_rng(seed)
    return [rng.choice(tags, rng.integers(1, longest)).tolist() for _ in range(n)]


@pytest.mark.parametrize("tags", [taggers.NAMES, IOBES, ODD], ids=["iob2", "iobes", "odd"])
def test_entities_are_those_of_seqeval(tags):
    """500 random rows of tags, nothing held to any scheme; each by itself and all together."""
    rng, gold = np.random.default_rng(0), drawn(tags, 500, 1)
    said = [[tag if rng.random() < 0.6 else rng.choice(tags) for tag in row] for row in gold]
    said[:3] = [["O"] * len(row) for row in gold[:3]]
    number = {tag: i for i, tag in enumerate(tags)}
    one, two = ([np.array([number[tag] for tag in row]) for row in rows] for rows in (gold, said))
    counts = count_entities(Scheme.of(tags), one, two)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for row, (g, s) in enumerate(zip(gold, said, strict=True)):
            there, found = (set(seqeval.metrics.sequence_labeling.get_entities(list(tags))) for tags in (g, s))
            assert counts[row].tolist() == [len(there & found), len(found), len(there)], (g, s)
        right, all_said, all_gold = counts.sum(axis=0)
        assert 2 * right / (all_said + all_gold) == pytest.approx(seqeval.metrics.f1_score(gold, said), abs=1e-12)


def test_what_names_entities():
    assert names_entities(IOBES) and names_entities(["B", "I"])
    assert not names_entities(["O"]) and not names_entities(["NOUN"]) and not names_entities(["O", "U-PER"])
    assert not names_entities(["BPER"])


def question(family, sentences, longest=64, names=taggers.NAMES, metric=""):
    data = align(tiny.tokenizer(family), [words for words, _ in sentences], longest)
    gold = [np.array([names.index(tag) for tag in tags]) for _, tags in sentences]
    return Tags.make(data, gold, names, TASKS["tags"], metric)


def plain(model, tok, sentences, longest):
    """The tag of the first token of every word, one sentence at a time; O for a word that was cut off."""
    said, reached = [], []
    for words, _ in sentences:
        found = tok(words, is_split_into_words=True, truncation=True, max_length=longest, return_tensors="pt")
        with torch.no_grad():
            best = model(**found).logits[0].argmax(dim=1).tolist()
        first = {}
        for place, word in enumerate(found.word_ids(0)):
            if word is not None and word not in first:
                first[word] = best[place]
        said.append([model.config.id2label[first[i]] if i in first else "O" for i in range(len(words))])
        reached.append([i in first for i in range(len(words))])
    return said, reached


@pytest.mark.parametrize("longest", [tiny.POSITIONS - 2, 9], ids=["whole", "cut"])
@pytest.mark.parametrize("family", families_for("tags"))
def test_a_score_is_that_of_seqeval_on_a_plain_loop(family, longest):
    """Whatever the batches are, and where sentences are cut; in byte pairs most words are several tokens."""
    model, tok, sentences = taggers.tagger(family), tiny.tokenizer(family), taggers.tagged(70, 3)
    asked = question(family, sentences, longest)
    found = score(model, asked)
    said, reached = plain(model, tok, sentences, longest)
    gold = [tags for _, tags in sentences]
    assert found.value == pytest.approx(seqeval.metrics.f1_score(gold, said), abs=1e-9)
    right = [[r and a == b for r, a, b in zip(*rows, strict=True)] for rows in zip(reached, gold, said, strict=True)]
    assert found.others == {"word_accuracy": pytest.approx(np.mean([one for row in right for one in row]))}
    assert found.right.tolist() == [all(row) for row in right] and found.n == 70
    lost = sum(not one for row in reached for one in row)
    assert asked.data.lost == lost and (lost > 0) == (longest == 9)
    assert (tiny.hooks(model), found.low <= found.value <= found.high) == (0, True)


def test_losses_are_the_mean_cross_entropy_of_words():
    model, tok, sentences = taggers.tagger("bert"), tiny.tokenizer("bert"), taggers.tagged(6, 4)
    asked = question("bert", sentences)
    (batch,) = make_batches(asked.data, range(6), 10**6)
    with torch.no_grad():
        losses = asked.losses(batch.examples, asked.outputs(model, batch).numpy())
    for i, loss in zip(batch.examples, losses, strict=True):
        words, tags = sentences[int(i)]
        found = tok(words, is_split_into_words=True, return_tensors="pt")
        labels = [-100] * found["input_ids"].shape[1]
        for place, word in enumerate(found.word_ids(0)):
            if word is not None and found.word_ids(0).index(word) == place:
                labels[place] = taggers.NAMES.index(tags[word])
        expected = model(**found, labels=torch.tensor([labels])).loss
        assert loss == pytest.approx(expected.item(), rel=1e-5)
    assert asked.weights().tolist() == [len(words) for words, _ in sentences]


def test_running_scores_tend_to_the_last():
    model, asked = taggers.tagger("bert"), question("bert", taggers.tagged(400, 5))
    scores = list(evaluate(model, asked))
    assert [one.n for one in scores] == [64, 400] and scores[0].right is None and not scores[0].others
    assert scores[0].low <= scores[1].value <= scores[0].high
    assert scores[0].high - scores[0].low > scores[1].high - scores[1].low


def test_the_interval_is_a_bootstrap_over_sentences():
    """Against a plain one that draws sentence by sentence."""
    rng = np.random.default_rng(3)
    sums = np.stack([2 * rng.integers(0, 3, 200), rng.integers(4, 9, 200)], axis=1).astype(float)
    again = [sums[rng.integers(0, 200, 200)].sum(axis=0) for _ in range(4000)]
    low, high = np.percentile([part / whole for part, whole in again], [2.5, 97.5])
    assert sums_interval(sums) == pytest.approx((low, high), abs=0.006)
    assert sums_interval(np.zeros((3, 2))) == (0.0, 0.0)


def test_no_entities_at_all():
    """None there and none said is 0, as seqeval has it, and no division by nothing."""
    model = taggers.tagger("bert")
    with torch.no_grad():
        model.classifier.bias[:] = torch.tensor([100.0, 0, 0, 0, 0])
    found = score(model, question("bert", [(["a", "film"], ["O", "O"])] * 3))
    assert (found.value, found.others["word_accuracy"], found.right.all()) == (0.0, 1.0, True)


def test_parts_of_speech_have_no_entities():
    names = ("NOUN", "VERB", "DET")
    asked = question("bert", taggers.tagged(30, 6, names), names=names)
    assert asked.task.metrics == ("word_accuracy",)
    found = score(taggers.tagger("bert", names=names), asked)
    assert found.metric == "word_accuracy" and not found.others and 0 < found.low < found.value < found.high
    with pytest.raises(VPError, match="no metric 'entity_f1'"):
        question("bert", taggers.tagged(3, 6, names), names=names, metric="entity_f1")


def test_a_word_is_read_as_inside_of_a_text():
    """A byte-pair tokeniser without a space before each word would read all of them as a text's beginning."""
    tok = tiny.tokenizer("roberta")
    words = ["a", "film", "was", "dull"]
    expected = align(tok, [words], 32)
    state = json.loads(tok.backend_tokenizer.to_str())
    state["pre_tokenizer"]["add_prefix_space"] = False
    bare = tiny.PreTrainedTokenizerFast(
        tokenizer_object=tiny.Tokenizer.from_str(json.dumps(state)), model_max_length=38, **tok.special_tokens_map
    )
    assert bare(words, is_split_into_words=True)["input_ids"] != expected.ids[0]
    assert align(bare, [words], 32).ids == expected.ids


def test_words_that_are_nothing_to_the_tokeniser():
    """A word of characters that are thrown away has no token: it counts as not found."""
    asked = question("bert", [(["film", "\u200b\u200c", "dull"], ["B-PER", "I-PER", "I-PER"])])
    assert asked.data.counts == [3] and asked.data.spoken[0].tolist() in ([0, 2], [0, 1, 2])
    data = align(tiny.tokenizer("bert"), [["film", " ", "dull"]], 32)
    assert data.spoken[0].tolist() == [0, 2] and data.lost == 1


def test_a_slow_tokeniser():
    class Slow:
        is_fast = False

    with pytest.raises(VPError, match="slow one"):
        align(Slow(), [["a"]], 32)


def sentences(*rows):
    return Sentences([tuple("x" * len(row)) for row in rows], [tuple(row) for row in rows], "a.txt")


@pytest.mark.parametrize(
    ("own", "labels", "row", "numbers"),
    [
        (taggers.NAMES, (), ["O", "b-per", "I_LOC"], [0, 1, 4]),
        (taggers.NAMES, (), [0, 4, 2], [0, 4, 2]),
        (taggers.NAMES, (), ["0", "4"], [0, 4]),
        (taggers.NAMES, ("0", "3", "4", "1", "2"), [0, 3, 4, 1, 2], [0, 1, 2, 3, 4]),
        (("LABEL_0", "LABEL_1"), ("I-X", "O"), ["O", "I-X"], [1, 0]),
        (taggers.NAMES, ("O", "B-LOC", "I-LOC", "B-PER", "I-PER"), ["B-PER"], [3]),
    ],
)
def test_tags_of_the_data_and_outputs_of_the_model(own, labels, row, numbers):
    found = names_of(taggers.tagger("bert", names=own), sentences(row), labels)
    assert [tags.tolist() for tags in numbers_of(found, sentences(row))] == [numbers]
    assert found.counted == ((isinstance(row[0], int) or row[0] == "0") and not labels)
    assert bool(found.notes) == (found.counted or labels == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER"))


@pytest.mark.parametrize(
    ("own", "labels", "row", "what"),
    [
        (taggers.NAMES, (), ["O", "B-ORG"], "tags B-ORG of 'a.txt' are not the model's"),
        (taggers.NAMES, (), ["S-PER"], "tags S-PER"),
        (taggers.NAMES, (), [5], "tags 5 of"),
        (taggers.NAMES, (), [-1], "tags -1 of"),
        (("LABEL_0", "LABEL_1"), (), ["O", "B-X"], "only numbers its 2 outputs"),
        (taggers.NAMES, ("O", "B-PER"), ["O"], "names 2 tags"),
        (taggers.NAMES, ("O", "O", "I-PER", "B-LOC", "I-LOC"), ["O"], "each of them once"),
    ],
)
def test_tags_that_are_not_the_models(own, labels, row, what):
    with pytest.raises(VPError, match=what) as told:
        numbers_of(names_of(taggers.tagger("bert", names=own), sentences(row), labels), sentences(row))
    assert str(told.value).endswith(".")


def test_numbers_in_another_order_are_found_out():
    table = np.array([[900, 2, 1], [3, 2, 40], [1, 50, 4]])  # output 1 is said where tag 2 stands, and the other way round
    assert fits_otherwise(table).tolist() == [0, 2, 1]
    assert fits_otherwise(table[[0, 2, 1]]) is None
    assert fits_otherwise(np.array([[900, 50, 40], [0, 0, 0], [0, 0, 0]])) is None  # a model that always says O is only bad
