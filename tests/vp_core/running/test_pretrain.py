"""Windows of a text, a head for masked words on any encoder, and a classifier of what was pre-trained."""

import pytest
import tiny
import torch

from vp_core.comparing.masked_lm import masked_lm_loss
from vp_core.ground.errors import VPError
from vp_core.model.projections import find_projections, weight_of
from vp_core.replacing.prune import prune
from vp_core.running.pretrain import classifier_of, open_masked_lm, windows
from vp_core.squeezing.folder import save_pruned
from vp_core.squeezing.squeeze import squeeze

TOKENIZER = tiny.tokenizer("bert")


@pytest.fixture
def text(tmp_path):
    lines = [" = Title = ", "", *tiny.sentences(30, seed=1), "the <unk> was a @-@ plate"]
    (tmp_path / "text.txt").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path / "text.txt"


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_windows_are_the_text_one_after_another(family, text):
    tokenizer = tiny.tokenizer(family)
    data = windows(tokenizer, text, 16)
    first, last = tokenizer("a")["input_ids"][0], tokenizer("a")["input_ids"][-1]
    lines = [line.strip() for line in text.read_text().replace("<unk>", tokenizer.unk_token).split("\n") if line.strip()]
    lines[-1] = lines[-1].replace(" @-@ ", "-")
    whole = [i for line in lines for i in tokenizer(line, add_special_tokens=False)["input_ids"]]
    assert all(row[0] == first and row[-1] == last for row in data.ids)
    assert {len(row) for row in data.ids[:-1]} == {16}
    inner = [i for row in data.ids for i in row[1:-1]]
    assert inner == whole[: len(inner)] and len(whole) - len(inner) < 8
    assert tokenizer.unk_token_id in inner and data.pad_id == tokenizer.pad_token_id
    assert windows(tokenizer, text, 16, most=3).ids == data.ids[:3]


def test_texts_that_are_refused(tmp_path, text):
    def says(match, path, length=16):
        with pytest.raises(VPError, match=match + r".*\.$") as raised:
            windows(TOKENIZER, path, length)
        assert "\n" not in str(raised.value)

    says("There is no file", tmp_path / "none.txt")
    says("it is a folder", tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00abc")
    says("is UTF-16 text, not UTF-8", tmp_path / "binary")
    (tmp_path / "zeros").write_bytes(b"abc\0def\n")
    says("holds a NUL byte", tmp_path / "zeros")
    (tmp_path / "short.txt").write_text("the film was great\n")
    says("fewer than two windows", tmp_path / "short.txt")
    says("choose 10 or more", text, 9)
    says("takes 40 at most", text, 41)


@pytest.mark.parametrize("family", ["bert", "distilbert", "albert"])
def test_a_head_is_put_on_a_classifiers_encoder_and_told(family, tmp_path):
    model = tiny.classifier(family)
    folder, told = tiny.save(tmp_path / "model", model, tiny.tokenizer(family)), []
    found, tokenizer = open_masked_lm(str(folder), told.append)
    again, _ = open_masked_lm(str(folder), told.append)
    assert type(found).__name__.endswith("ForMaskedLM") and found.training and len(told) == 2 and "drawn anew" in told[0]
    for name, value in model.base_model.state_dict().items():
        if "pooler" not in name:
            assert torch.equal(found.base_model.state_dict()[name], value), name
    assert tiny.sha(found) == tiny.sha(again)  # the head is drawn by the seed
    other, _ = open_masked_lm(str(folder), seed=1)
    assert tiny.sha(other) != tiny.sha(found)
    assert all(p.requires_grad for p in found.parameters())
    assert masked_lm_loss(found.eval(), tokenizer, tiny.sentences(10)) > 1
    fresh, _ = open_masked_lm(str(folder), told.append, fresh=True)
    assert not torch.equal(fresh.get_input_embeddings().weight, found.get_input_embeddings().weight)
    assert "from the beginning" in told[-1]


def test_a_head_that_is_there_is_taken(tmp_path):
    torch.manual_seed(0)
    model = tiny.build("bert", "ForMaskedLM", vocab_size=420, **tiny.sizes("bert", 32, 56, 2))
    told = []
    found, _ = open_masked_lm(str(tiny.save(tmp_path / "model", model, TOKENIZER)), told.append)
    assert tiny.sha(found) == tiny.sha(model) and told == []


def test_models_that_are_refused(tmp_path):
    def says(match, folder):
        with pytest.raises(VPError, match=match + r".*\.$") as raised:
            open_masked_lm(str(folder))
        assert "\n" not in str(raised.value)

    says("predicts no masked words", tiny.save(tmp_path / "gpt2", tiny.classifier("gpt2"), tiny.tokenizer("gpt2")))
    model = tiny.classifier("bert")
    plan = tiny.random_plan(model)
    small = squeeze(prune(model, plan, tiny.random_constants(model)), plan)
    says("squeezed already", save_pruned(small, tmp_path / "small", TOKENIZER))
    state = model.state_dict()
    del state["bert.encoder.layer.1.output.dense.weight"]
    model.save_pretrained(tmp_path / "lacks", state_dict=state)
    TOKENIZER.save_pretrained(tmp_path / "lacks")
    says("lacks 1 of the encoder's weights", tmp_path / "lacks")


def test_the_demo_has_an_encoder_too():
    told = []
    model, tokenizer = open_masked_lm("demo", told.append)
    assert tokenizer.mask_token_id is not None and "drawn anew" in told[0] and type(model).__name__ == "BertForMaskedLM"


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_a_classifier_of_a_pruned_encoder(family):
    """The pruned rows with their constants are in it; the head is new, and the plan squeezes it."""
    like = tiny.transformer(family, dtype=torch.float32)
    torch.manual_seed(3)
    settings = tiny.sizes(family, 48, tiny.FFN, 2) | {"vocab_size": 99}
    pretrained = tiny.draw_biases(tiny.build(family, "ForMaskedLM", **settings))
    plan = tiny.random_plan(pretrained)
    pruned = prune(pretrained, plan, {n: c.float() for n, c in tiny.random_constants(pretrained).items()})
    model = classifier_of(pruned, like, seed=1)
    given = tiny.inputs(family, torch.float32)
    with torch.no_grad():
        states = [one.base_model(**given).last_hidden_state for one in (model, pruned)]
    torch.testing.assert_close(*states)
    for p in find_projections(model):
        assert not weight_of(model, p)[~plan.keep[p.name]].any()
    assert model.config.num_labels == 3 and not model.training
    assert tiny.distance(tiny.logits(squeeze(model, plan), given), tiny.logits(model, given)) < 1e-4
    assert tiny.sha(classifier_of(pruned, like, seed=1)) == tiny.sha(model) != tiny.sha(classifier_of(pruned, like, seed=2))
    with pytest.raises(VPError, match=r"another shape.*\.$"):
        classifier_of(pruned, tiny.classifier(family))
