"""A language model that reads and writes, dense against squeezed: prefill and decode, tokens a second beside their limits.

`python -m benchmarks.generation [FOLDER]`: random weights of SmolLM2-135M's shape, or the model in a folder. What goes is half
of the hidden neurons and value coordinates, and then half of the query/key pairs besides, drawn at random. Reading
should take as long as its FLOPs, writing, one token at a time, as long as the bytes of weights that each token goes through.
"""

import sys
from collections.abc import Callable

import torch
from transformers import AutoModelForCausalLM, DynamicCache, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from benchmarks.measure import alternating, line
from vp_core.model.projections import find_layers, find_projections
from vp_core.model.units import unit_groups
from vp_core.ranking.plan import rank
from vp_core.replacing.prune import prune
from vp_core.squeezing.cost import flops_per_token
from vp_core.squeezing.squeeze import squeeze
from vp_core.squeezing.timing import random_texts

READ, WRITTEN, SHARE, REPEATS = 512, 16, 0.5, 5
KINDS = {"ffn neurons and values": ("ffn neurons", "values"), "pairs too": ("ffn neurons", "values", "pairs")}


def smollm2() -> PreTrainedModel:
    """The shape of SmolLM2-135M: 9 heads of 64 of the query share 3 of key and value; embeddings tied."""
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=576, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3, intermediate_size=1536,
        vocab_size=49152, max_position_embeddings=8192, tie_word_embeddings=True,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def smaller(model: PreTrainedModel, kinds: tuple[str, ...]) -> PreTrainedModel:
    """Without a random share of the units of these kinds, squeezed."""
    groups, generator = unit_groups(find_layers(model), kinds), torch.Generator().manual_seed(1)
    scores = {g.name: torch.rand(len(g), generator=generator, dtype=torch.double) for g in groups}
    plan = rank(scores, groups).plan(SHARE)
    return squeeze(prune(model, plan, {p.name: torch.zeros(p.d_out) for p in find_projections(model)}), plan)


def prefill(model: PreTrainedModel) -> Callable[[], DynamicCache]:
    """Reads a text of READ tokens and says what comes next."""
    ids = random_texts(model.config, 1, READ)["input_ids"]

    def read() -> DynamicCache:
        cache = DynamicCache(config=model.config)
        with torch.inference_mode():
            model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return cache

    return read


def decode(model: PreTrainedModel) -> Callable[[], None]:
    """Writes WRITTEN tokens after a text of READ, the likeliest one each time."""
    cache = prefill(model)()

    def write() -> None:
        token = torch.zeros(1, 1, dtype=torch.long)
        with torch.inference_mode():
            for _ in range(WRITTEN):
                token = model(input_ids=token, past_key_values=cache, use_cache=True).logits.argmax(dim=-1)
            cache.crop(-WRITTEN)

    return write


def flops(model: PreTrainedModel) -> int:
    """Of a prefill: the layers for each token, the vocabulary for the last one only."""
    head = model.get_output_embeddings()
    return READ * flops_per_token(model, READ) + 2 * head.weight.numel()


def bytes_read(model: PreTrainedModel) -> int:
    """Of a token that is written: every weight once, of embeddings of their own (not tied) one row, and the cache of keys and
    values."""
    embeddings, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    weights = {id(p): p.numel() * p.element_size() for p in model.parameters()}
    if embeddings is not head:
        del weights[id(embeddings)]
    kept = prefill(model)()
    return sum(weights.values()) + sum(t.numel() * t.element_size() for one in kept.layers for t in (one.keys, one.values))


def run(folder: str | None = None) -> None:
    """All lines, in float32, with as many threads as torch takes."""
    dense = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval() if folder else smollm2()
    models = {"dense": dense, **{name: smaller(dense, kinds) for name, kinds in KINDS.items()}}
    reading = alternating({name: prefill(model) for name, model in models.items()}, REPEATS)
    writing = alternating({name: decode(model) for name, model in models.items()}, REPEATS)
    print(f"{folder or 'SmolLM2-135M shape'}, float32, batch 1, {torch.get_num_threads()} threads")
    for name, model in models.items():
        read, wrote = READ / reading[name], WRITTEN / writing[name]
        print(f"  {name}: prefill of {READ} {read:,.0f} tokens/s, decode {wrote:,.1f} tokens/s")
        if name == "dense":
            continue
        share = model.squeezed.cost.share_removed
        for what, seconds, amount in (("prefill", reading, flops), ("decode", writing, bytes_read)):
            limit, ratio = amount(dense) / amount(model), seconds["dense"] / seconds[name]
            whose = "FLOPs" if what == "prefill" else "bytes"
            text = (
                f"{what}, half of {name} ({share:.0%} of weights): dense / squeezed ({whose} {limit:.2f}, {ratio / limit:.0%})"
            )
            line(text, ratio, "x", ">= 80 % of the limit")


if __name__ == "__main__":
    run(*sys.argv[1:2])
