"""Cosines of features against a plain loop over texts in numpy, nothing shared with the code under test."""

import numpy as np
import pytest
import tiny
import torch

from vp_core.asking.batches import encode, make_batches
from vp_core.comparing.features import feature_sites, similarity
from vp_core.ground.errors import VPError
from vp_core.model.sharing import share
from vp_core.weights.matrices import find_matrices, view

TEXTS = [(text,) for text in tiny.sentences(9, seed=5, longest=12)]


def shaken(model, seed=0):
    """The model with noise on every matrix."""
    copy = share(model, {name: p.detach().clone() for name, p in model.named_parameters()})
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for matrix in find_matrices(copy):
            weight = view(copy, matrix)
            weight += 0.1 * torch.randn(weight.shape, generator=draw)
    return copy


def batches(loaded):
    data = encode(loaded.tokenizer, TEXTS, 20)
    return make_batches(data, range(len(data)), 64)


def states(model, tok, text):
    """Hidden states after each layer (tokens, d), of the encoder alone, as transformers hands them out."""
    with torch.no_grad():
        out = share(model)(**tok(*text, return_tensors="pt", truncation=True, max_length=20), output_hidden_states=True)
    return [h[0].double().numpy() for h in out.hidden_states[1:]]


@pytest.mark.parametrize("family", ["bert", "albert", "distilbert"])
def test_cosines_are_those_of_transformers_hidden_states(loaded, family):
    dense = loaded[family].model
    pruned = shaken(dense)
    sums, tokens = 0, 0
    for text in TEXTS:
        one, other = (states(model, loaded[family].tokenizer, text) for model in (dense, pruned))
        cosines = [
            ((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).sum()
            for a, b in zip(one, other, strict=True)
        ]
        sums, tokens = sums + np.array(cosines), tokens + len(one[0])
    before = tiny.sha(dense), tiny.hooks(dense)
    found = similarity(dense, pruned, batches(loaded[family]))
    assert np.allclose(found.numpy(), sums / tokens, atol=1e-5) and len(found) == 3
    assert (found < 0.999).all()
    assert (tiny.sha(dense), tiny.hooks(dense)) == before


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_every_family_is_like_itself(loaded, family):
    model = loaded[family].model
    found = similarity(model, share(model), batches(loaded[family]))
    layers = {"bart": 2, "t5": 2, "mbart": 2}.get(family, 3)
    assert found.shape == (layers,) and np.allclose(found, 1, atol=1e-9)
    assert (similarity(model, shaken(model), batches(loaded[family])) < 0.9999).any()


def test_a_decoders_layers_come_after_its_encoders():
    assert [site.decoder for site in feature_sites(tiny.transformer("bart"))] == [False, False, True, True]


def test_padding_does_not_count(loaded):
    one = similarity(loaded["bert"].model, shaken(loaded["bert"].model), batches(loaded["bert"]))
    data = encode(loaded["bert"].tokenizer, TEXTS, 20)
    alone = [make_batches(data, [i])[0] for i in range(len(data))]
    assert np.allclose(one, similarity(loaded["bert"].model, shaken(loaded["bert"].model), alone), atol=1e-6)


def test_what_cannot_be_compared(loaded):
    with pytest.raises(VPError, match="no texts"):
        similarity(loaded["bert"].model, loaded["bert"].model, [])
    with pytest.raises(VPError, match="other layers"):
        similarity(loaded["bert"].model, loaded["gpt2"].model, batches(loaded["bert"]))
