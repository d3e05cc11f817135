"""The loss on masked words: which words, what stands in their place, and the loss against numpy."""

import numpy as np
import pytest
import tiny
import torch

from vp_core.asking.words.masking import mask_words
from vp_core.comparing.masked_lm import masked_lm_loss
from vp_core.ground.errors import VPError

TEXTS = tiny.sentences(40, seed=6, longest=30)
TOKENIZER = tiny.tokenizer("bert")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return tiny.build("bert", "ForMaskedLM", vocab_size=420, **tiny.sizes("bert", 32, 56, 2), initializer_range=0.25)


def plain(texts):
    return [TOKENIZER(text, truncation=True, max_length=32)["input_ids"] for text in texts]


def test_the_loss_is_that_of_numpy(model):
    sums, words = 0.0, 0
    for masked in mask_words(TOKENIZER, TEXTS, max_length=32):
        with torch.no_grad():
            logits = model(**masked.batch.inputs).logits.double().numpy()
        for row, column, token in zip(masked.rows.tolist(), masked.columns.tolist(), masked.ids.tolist(), strict=True):
            z = logits[row, column]
            sums, words = sums + np.log(np.exp(z - z.max()).sum()) + z.max() - z[token], words + 1
    found = masked_lm_loss(model, TOKENIZER, TEXTS, max_length=32)
    assert found == pytest.approx(sums / words, rel=1e-6) and found != pytest.approx(np.log(420), abs=0.05)


def test_the_loss_is_that_of_transformers_itself(model):
    sums, words = 0.0, 0
    for masked in mask_words(TOKENIZER, TEXTS, max_length=32):
        labels = torch.full_like(masked.batch.inputs["input_ids"], -100)
        labels[masked.rows, masked.columns] = masked.ids
        with torch.no_grad():
            sums += model(**masked.batch.inputs, labels=labels).loss.item() * len(masked.ids)
        words += len(masked.ids)
    assert masked_lm_loss(model, TOKENIZER, TEXTS, max_length=32) == pytest.approx(sums / words, rel=1e-5)


def test_which_words_and_what_stands_there():
    texts, ids = TEXTS * 20, plain(TEXTS) * 20
    kinds = {"mask": 0, "other": 0, "same": 0}
    seen = []
    for masked in mask_words(TOKENIZER, texts, max_length=32):
        there = masked.batch.inputs["input_ids"]
        for row, i in enumerate(masked.batch.examples.tolist()):
            chosen = masked.columns[masked.rows == row]
            words = len(ids[i]) - 2
            assert len(set(chosen.tolist())) == len(chosen) == max(1, round(0.15 * words))
            assert chosen.min() > 0 and chosen.max() <= words  # neither [CLS] nor [SEP] nor padding
            assert masked.ids[masked.rows == row].tolist() == [ids[i][c] for c in chosen.tolist()]
            left = np.setdiff1d(np.arange(len(ids[i])), chosen)
            assert there[row, left].tolist() == [ids[i][c] for c in left]
            for column, token in zip(chosen.tolist(), there[row, chosen].tolist(), strict=True):
                same = token == ids[i][column]
                kinds["mask" if token == TOKENIZER.mask_token_id else "same" if same else "other"] += 1
        seen += masked.batch.examples.tolist()
    assert sorted(seen) == list(range(len(texts)))
    shares = {kind: count / sum(kinds.values()) for kind, count in kinds.items()}
    assert shares["mask"] == pytest.approx(0.8, abs=0.03) and shares["other"] == pytest.approx(0.1, abs=0.03)


def test_the_same_seed_masks_the_same_words_whatever_the_other_texts(model):
    assert masked_lm_loss(model, TOKENIZER, TEXTS) == masked_lm_loss(model, TOKENIZER, TEXTS)
    assert masked_lm_loss(model, TOKENIZER, TEXTS) != masked_lm_loss(model, TOKENIZER, TEXTS, seed=1)
    first = {int(m.batch.examples[0]): m for m in mask_words(TOKENIZER, TEXTS[:1])}[0]
    for masked in mask_words(TOKENIZER, TEXTS):
        if 0 in masked.batch.examples:
            row = masked.batch.examples.tolist().index(0)
            assert masked.columns[masked.rows == row].tolist() == first.columns.tolist()


@pytest.mark.parametrize(
    ("texts", "options", "says"),
    [
        ([], {}, "no words to mask"),
        (["", ""], {}, "no words to mask"),
        (["a film"], {"share": 0}, "must be above 0"),
        (["a film"], {"share": float("nan")}, "must be above 0"),
    ],
)
def test_bad_input(model, texts, options, says):
    with pytest.raises(VPError, match=says):
        masked_lm_loss(model, TOKENIZER, texts, **options)


def test_a_model_without_the_head_and_a_tokeniser_without_a_mask(loaded, model):
    with pytest.raises(VPError, match="BertForSequenceClassification predicts no masked words"):
        masked_lm_loss(loaded["bert"].model, TOKENIZER, TEXTS)
    with pytest.raises(VPError, match="no mask token"):
        masked_lm_loss(model, loaded["gpt2"].tokenizer, TEXTS)
