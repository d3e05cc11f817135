"""What the tests of recipes share: tiny models and texts they are measured on, without a study around them."""

from functools import cache

import numpy as np
import tiny
import torch

from vp_core.asking.batches import Batch, Encoded
from vp_core.carry_out import Stage
from vp_core.measuring.measured import Measured
from vp_core.model.projections import find_layers
from vp_core.model.units import unit_groups
from vp_core.ranking.plan import rank

CLASSIFIERS = (*tiny.FAMILIES, "llama")
OTHERS = ("opt", "gpt_neox", "phi3", "gemma2")
"""Further ones whose layers are unlike all of these: for what is measured and solved layer by layer."""
ROWS = ("rows",)
KINDS = ("ffn neurons", "values", "pairs", "heads", "sublayers", "layers")


@cache
def classifier(family, dtype=torch.float64, outputs=3):
    """A tiny classifier of 2 layers of 4 heads of 12, dropout off, in float64."""
    if family not in (*tiny.WRITERS, *tiny.READS_END):
        return tiny.transformer(family, dtype=dtype, num_labels=outputs)
    torch.manual_seed(1)
    settings = tiny.sizes(family, 48, tiny.FFN, 2) | tiny.NO_DROPOUT | {"num_labels": outputs, "vocab_size": 99}
    model = tiny.draw_biases(tiny.build(family, "ForSequenceClassification", **settings | {"pad_token_id": 1}))
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear | tiny.Conv1D):
                module.weight.normal_(std=0.3)
    return model.to(dtype)


def texts(family, n=40, longest=11, seed=0):
    """`n` random texts of 3 to `longest` tokens."""
    rng, end = np.random.default_rng(seed), [2] if family in tiny.READS_END else []  # BART's classifier reads the end token
    ids = [[*rng.integers(5, 99, rng.integers(3, longest + 1)).tolist(), *end] for _ in range(n)]
    return Encoded(ids, None, 1 if family in (*tiny.PAD_1, *tiny.WRITERS, "t5") else 0, 0, longest + 1)


def stage(family, n=40, model=None):
    """The tiny classifier (or `model`) measured on `n` texts, and what recipes make of it."""
    return Stage(Measured(classifier(family) if model is None else model, texts(family, n), "m", "d"))


def batch_of(family):
    """(model, one batch with padding) of any family, BART with a decoder of its own, ViT with pictures."""
    return tiny.transformer(family), Batch(tiny.inputs(family), np.arange(3))


def random_ranking(model, kinds, seed=0, scope="per layer", types=()):
    """Units in a random order."""
    groups, draw = unit_groups(find_layers(model), kinds, types), torch.Generator().manual_seed(seed)
    return rank({g.name: torch.rand(len(g), generator=draw, dtype=torch.float64) for g in groups}, groups, scope)


def outputs(model, batches):
    """Logits (examples, outputs), batch by batch."""
    with torch.no_grad():
        return torch.cat([model(**batch.inputs).logits for batch in batches]).double()
