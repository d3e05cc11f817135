"""The small language model that comes along: its stories, its tokenizer, what it knows, and how it is built."""

import json
import re
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vp_core.demo.load import MODEL_FILE, TEXT, TEXT_FILES, load_demo_text, text_files
from vp_core.demo.making.build import folder_bytes
from vp_core.demo.writing.build import LIMIT, SEEDS, SIZES, build, shipped
from vp_core.demo.writing.stories import BREAK, whole, write_stories
from vp_core.demo.writing.tokens import END, MAX_LENGTH, encode
from vp_core.demo.writing.train import TrainSettings, batch_of, known, perplexity
from vp_core.demo.writing.words import NUMBERS, held_out, nouns, people, words


@pytest.fixture(scope="module")
def demo_text():
    return load_demo_text()


@pytest.fixture(scope="module")
def metrics():
    return json.loads((TEXT / "metrics.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def training():
    """The stories that the model was trained on."""
    return write_stories("train", SEEDS["training"], TrainSettings().text_bytes)


def committed(split):
    return text_files()[split].read_text(encoding="utf-8")


def continued(demo_text, beginning, tokens=12):
    """The greedy continuation of a beginning."""
    model, tokenizer = demo_text
    inputs = tokenizer(beginning, return_tensors="pt")
    said = model.generate(**inputs, max_new_tokens=tokens, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    return tokenizer.decode(said)


@pytest.mark.parametrize("split", TEXT_FILES)
def test_committed_stories_are_what_the_grammar_writes(split, training):
    assert committed(split) == whole(shipped(split, training))
    assert SIZES[split] * 0.98 < len(committed(split)) < SIZES[split] * 1.02
    assert write_stories(split, 1, 2000) == write_stories(split, 1, 2000) != write_stories(split, 2, 2000)


@pytest.mark.parametrize("split", TEXT_FILES)
def test_stories_are_clean_english(split):
    for story in committed(split).rstrip("\n").split(BREAK):
        assert story[0].isupper() or story[:2].lstrip('"').isupper()
        assert story[-1] in '."!?' and story.count('"') % 2 == 0, story
        assert not re.search(r"[{}\[\]<>|_\t\n\x02\x03]|  |\.\.|,\.", story), story
        assert not re.search(r"\b[Aa] (?=[aeiou])(?!useful)|\b[Aa]n (?=[^aeiou])", story), story
        assert not re.search(r"\b(\w+) \1\b", story), story
        assert not re.search(r"[.!?] [a-z]", story.replace('!" ', "").replace('?" ', "")), story


def test_no_shipped_story_was_trained_on_and_the_test_has_what_training_never_saw(training):
    seen, train, test = ({story.text for story in training}, committed("train"), committed("test"))
    stories = {split: set(committed(split).rstrip("\n").split(BREAK)) for split in TEXT_FILES}
    assert not stories["train"] & stories["test"] and not seen & (stories["train"] | stories["test"])
    both = whole(training) + train
    new = {person.name for person in people(new=True)}
    assert not new & set(re.findall(r"\w+", both)) and len(new & set(re.findall(r"\w+", test))) == len(new)
    things = "|".join(one.one for kind in ("small", "clothes") for one in nouns("things", kind))
    coloured = re.compile(rf"\b({'|'.join(words('things', 'colours'))}) ({things})\b")
    found = {name: set(coloured.findall(text)) for name, text in (("both", both), ("test", test))}
    assert len(found["both"]) > 200 and len(found["test"] - found["both"]) > 15
    paid = re.compile(r"One \w+ cost (\w+) coins?\. \w+ bought (\w+) \w+ and")
    sums = {
        name: {tuple(map(NUMBERS.index, found)) for found in paid.findall(text)}
        for name, text in (("both", both), ("test", test))
    }
    assert len(sums["both"]) > 15 and not any(held_out(*pair) for pair in sums["both"])
    assert any(held_out(*pair) for pair in sums["test"])


def test_facts_stand_where_they_are_said(training):
    kinds = {fact.kind for story in training[:500] for fact in story.facts}
    assert len(kinds) == 18
    for story in training[:200]:
        for fact in story.facts:
            assert re.fullmatch(r"\w.*\w|\w", story.text[fact.start : fact.end])
            assert not story.text[fact.start - 1].isalnum() and not story.text[fact.end].isalnum()


@pytest.mark.parametrize(("pattern", "result"), [
    (r"had (\w+) \w+\. Then \w+ found (\w+) more\. Now \w+ had (\w+)", lambda a, b: a + b),
    (r"cost (\w+) coins?\. \w+ bought (\w+) \w+ and paid (\w+) coin", lambda a, b: a * b),
    (r"had (\w+) \w+\. \w+ took (\w+) of them\. That left (\w+)", lambda a, b: a - b),
])  # fmt: skip
def test_sums_are_right(pattern, result, training):
    found = [tuple(map(NUMBERS.index, one)) for one in re.findall(pattern, whole(training))]
    assert len(found) > 30 and all(result(a, b) == c for a, b, c in found)


def test_days_follow_each_other(training):
    days = words("others", "days")
    found = re.findall(
        r"On (\w+day) .*? days later, on (\w+day)|On (\w+day) [^.]*\. The next day, on (\w+day)", whole(training)
    )
    following = [(one, two) for _, _, one, two in found if one]
    assert len(following) > 30 and all(days.index(two) == (days.index(one) + 1) % 7 for one, two in following)


def test_it_is_small_and_loads_at_once():
    assert folder_bytes(TEXT) <= LIMIT == 8_000_000 and (TEXT / MODEL_FILE).stat().st_size <= 5_000_000
    load_demo_text()
    started = time.perf_counter()
    load_demo_text()
    assert time.perf_counter() - started < 0.3


def test_the_model_is_whole_in_float32_with_a_tied_head(demo_text, metrics):
    model, tokenizer = demo_text
    assert not model.training and model.config.model_type == "llama"
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert model.config.num_key_value_heads < model.config.num_attention_heads
    assert model.config.vocab_size == len(tokenizer) == model.lm_head.out_features
    tensors = [*model.parameters(), *model.buffers()]
    assert {(tensor.device.type, tensor.dtype) for tensor in tensors} == {("cpu", torch.float32)}
    assert sum(parameter.numel() for parameter in model.parameters()) == metrics["parameters"]
    width = model.config.hidden_size // model.config.num_attention_heads
    exact = 10000.0 ** -(np.arange(0, width, 2) / width)
    np.testing.assert_allclose(model.model.rotary_emb.inv_freq.numpy(), exact, rtol=1e-6)
    assert model.model.rotary_emb.attention_scaling == 1.0


def test_saved_and_loaded_by_transformers_it_is_the_same(demo_text, tmp_path):
    model, tokenizer = demo_text
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path).eval()
    inputs = tokenizer("Mia had a red ball.", return_tensors="pt")
    with torch.inference_mode():
        assert torch.equal(model(**inputs).logits, again(**inputs).logits)


@settings(max_examples=200)
@given(st.text(st.characters(exclude_categories=("Cs",))))
def test_the_tokenizer_gives_any_text_back(demo_text, text):
    _, tokenizer = demo_text
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert ids == encode(tokenizer, text).tolist()


def test_the_tokenizer_has_what_a_language_model_needs(demo_text):
    model, tokenizer = demo_text
    assert tokenizer.bos_token == tokenizer.eos_token == END and tokenizer.pad_token_id not in (None, tokenizer.eos_token_id)
    assert (model.config.eos_token_id, model.config.pad_token_id) == (tokenizer.eos_token_id, tokenizer.pad_token_id)
    assert tokenizer.model_max_length == model.config.max_position_embeddings == MAX_LENGTH
    batch = tokenizer(["Mia ran.", "Tom"], padding=True, return_tensors="pt")
    assert batch["input_ids"].shape == batch["attention_mask"].shape and 0 in batch["attention_mask"]
    assert tokenizer(" naïve £5 ☃")["input_ids"] and "token_type_ids" not in batch


def test_perplexity_is_the_mean_of_its_tokens(demo_text):
    """Against float64 arithmetic of each window by hand."""
    model, tokenizer = demo_text
    tokens = encode(tokenizer, committed("test"))[:150]
    losses = []
    for start in range(0, 150, 64):
        window = tokens[start : start + 64]
        with torch.inference_mode():
            logits = model(input_ids=window[None]).logits[0].double().numpy()
        for at in range(len(window) - 1):
            row = logits[at] - logits[at].max()
            losses.append(np.log(np.exp(row).sum()) - row[window[at + 1]])
    assert perplexity(model, tokens, 64) == pytest.approx(np.exp(np.mean(losses)), rel=1e-5)


def test_perplexity_of_the_first_windows_is_as_reported(demo_text, metrics):
    model, tokenizer = demo_text
    tokens = encode(tokenizer, committed("test"))
    assert len(tokens) == metrics["tokens"]
    assert perplexity(model, tokens, metrics["window"], windows=8) == pytest.approx(
        metrics["perplexity_int8_first_8_windows"], rel=1e-3
    )


@pytest.mark.slow
def test_perplexity_and_facts_are_as_reported(demo_text, metrics, training):
    model, tokenizer = demo_text
    found = perplexity(model, encode(tokenizer, committed("test")), metrics["window"])
    assert found == pytest.approx(metrics["perplexity_int8"], rel=1e-3)
    assert found == pytest.approx(metrics["perplexity_float32"], rel=0.02)
    facts = known(model, tokenizer, shipped("test", training))
    assert {kind: total for kind, (_, total) in facts.items()} == {
        kind: int(told.split(" of ")[1]) for kind, told in metrics["facts"].items()
    }
    share = sum(right for right, _ in facts.values()) / sum(total for _, total in facts.values())
    assert share == pytest.approx(metrics["facts_share"], abs=0.003) and share > 0.9


@pytest.mark.parametrize(("beginning", "expected"), [
    ('Mia had a red ball. Mia gave the ball to Tom. "Who has the ball now?" asked Anna. "I have it," said', " Tom."),
    ('Leo had three apples. Then Leo found two more. Now Leo had', " five apples."),
    ('Leo had one apple. Then Leo found two more. Leo gave two of them to Nora. Now Leo had', " one apple."),
    ("On Monday Clara washed the windows. The next day, on", " Tuesday, she"),
    ("The dogs behind the house", " were"),
    ("The dog behind the houses", " was"),
    ('Nora met Ben. "Good morning, Ben," said Nora. "Good morning,', ' Nora," said Ben.'),
    ("Finn was faster than Rosa, and Rosa was faster than Paul. So", " Finn"),
    ("Anna heard a bark behind the wall. It was", " a dog."),
])  # fmt: skip
def test_what_it_says_next(demo_text, beginning, expected):
    assert continued(demo_text, beginning).startswith(expected)


def test_windows_are_led_and_lie_where_they_should():
    stream, starts = torch.arange(1000), torch.tensor([100, 200])
    windows = batch_of(stream, starts, -1, (400, 5), torch.Generator().manual_seed(0))
    assert windows.shape == (400, 5)
    led = windows[:, 0] == -1
    begins = torch.isin(windows[:, 0], starts)
    assert 60 < led.sum() < 140 and 60 < begins.sum() < 140
    assert torch.isin(windows[led, 1], starts).all()
    assert (windows[~led].diff(dim=1) == 1).all() and (windows[led, 1:].diff(dim=1) == 1).all()


@pytest.mark.slow
def test_a_small_build_gives_the_same_bytes_twice(tmp_path):
    small = TrainSettings(
        vocabulary=400, hidden=32, layers=1, heads=2, groups=1, ffn=32, text_bytes=30_000, steps=4, lengths=(16, 32), tokens=64
    )
    written = []
    for name in ("one", "two"):
        metrics = build(tmp_path / name, small, {"train": 5000, "test": 3000})
        written.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert written[0] == written[1] and {MODEL_FILE, "metrics.json", "tokenizer.json", "config.json"} <= written[0].keys()
    model, tokenizer = load_demo_text(tmp_path / "one")
    assert model.config.vocab_size == len(tokenizer) == 400
    assert 1 < metrics["perplexity_int8"] < 450
