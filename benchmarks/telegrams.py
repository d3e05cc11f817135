"""A small BART trained here to write telegrams: a clause of WikiText-2 without its function words, in their order.

`python -m benchmarks.telegrams OUT [WIKITEXT_FOLDER]` writes `OUT/pairs/train.tsv` and `dev.tsv` (columns `clause` and
`telegram`) and trains the model `OUT/bart` on the first, in about 8 minutes on one core; everything is drawn by a seed. It is a
compression whose rule is known, not a summary: what the model has to learn is to copy, and what to leave out.
"""

import re
import sys
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BartConfig, BartForConditionalGeneration, PreTrainedTokenizerFast

from vp_core.asking.reading.pairs import read_pairs
from vp_core.asking.sequences.pairs import encode_pairs
from vp_core.training.loop import train
from vp_core.training.schedule import Schedule, TextLessons

_WORDS = """
a an the of in on at by to for from with as into over under after before during and or but nor so that which who whom
whose this these those it its he his him she her they their them we our i my you your is are was were be been being has
have had do does did will would can could may might must should not no also then than there when where while if because
about between through such only very more most some any each other s
"""
FUNCTION_WORDS = frozenset(_WORDS.split())
"""What a telegram leaves out."""
LEAST, MOST = 5, 12
"""Words of a clause."""
DEV, VOCABULARY, WIDTH, LAYERS, LONGEST = 600, 2000, 128, 2, 48
SCHEDULE = Schedule(steps=2500, batch=48, lr=1e-3, weight_decay=0.01, warm_up=0.1, precision="float32")


def telegram(clause: str) -> str:
    """A clause without its function words and signs.

    >>> telegram("the village is in the north of the county .")
    'village north county'
    """
    return " ".join(word for word in re.findall(r"[a-z0-9]+", clause.lower()) if word not in FUNCTION_WORDS)


def clauses(text: str) -> list[str]:
    """The clauses of LEAST to MOST words of a text of WikiText-2, each once, in their order."""
    found = {}
    for line in text.splitlines():
        for part in re.split(r" [.;,:] ", line):
            words = part.strip().removesuffix(" .")
            right = LEAST <= len(words.split()) <= MOST and not re.search(r"[<=@\"()\t]", words) and words.isascii()
            if right and len(telegram(words).split()) > 2:
                found[words] = None
    return list(found)


def write_pairs(folder: Path, text: str) -> Path:
    """train.tsv and dev.tsv with the columns `clause` and `telegram`, the last DEV clauses apart."""
    rows = [f"{one}\t{telegram(one)}\n" for one in clauses(text)]
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in (("train", rows[:-DEV]), ("dev", rows[-DEV:])):
        (folder / f"{name}.tsv").write_text("clause\ttelegram\n" + "".join(part), encoding="utf-8")
    return folder


def make_tokeniser(texts: list[str]) -> PreTrainedTokenizerFast:
    """Byte pairs of small letters, with BART's special tokens."""
    names = {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>", "mask": "<mask>"}
    made = Tokenizer(models.BPE())
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=list(names.values()), initial_alphabet=alphabet)
    )
    made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    special = {f"{role}_token": name for role, name in names.items()}
    return PreTrainedTokenizerFast(
        tokenizer_object=made, model_max_length=LONGEST, cls_token="<s>", sep_token="</s>", **special
    )


def make_bart() -> BartForConditionalGeneration:
    """LAYERS + LAYERS layers of the width WIDTH, random, but that cross attention begins by looking for what is like its own
    token and place, and hands on what it finds: to learn that from nothing takes far longer than 8 minutes."""
    torch.manual_seed(0)
    sizes = {f"{half}_{what}": n for half in ("encoder", "decoder")
             for what, n in (("layers", LAYERS), ("attention_heads", 4), ("ffn_dim", 4 * WIDTH))}  # fmt: skip
    config = BartConfig(
        vocab_size=VOCABULARY, d_model=WIDTH, max_position_embeddings=LONGEST, dropout=0.0, forced_eos_token_id=None, **sizes
    )
    model = BartForConditionalGeneration(config)
    with torch.no_grad():
        model.model.decoder.embed_positions.weight.copy_(model.model.encoder.embed_positions.weight)
        for layer in model.model.decoder.layers:
            attention = layer.encoder_attn
            for module in (attention.q_proj, attention.v_proj):
                torch.nn.init.orthogonal_(module.weight)
            attention.k_proj.weight.copy_(attention.q_proj.weight)
            attention.out_proj.weight.copy_(attention.v_proj.weight.T)
    return model


def main(out: Path, wikitext: Path) -> None:
    """Data and model; says every hundred steps how it goes."""
    text = next(path for path in sorted(wikitext.rglob("*train*")) if path.is_file()).read_text(encoding="utf-8")
    pairs = read_pairs(write_pairs(out / "pairs", text), "train", ("clause",), "telegram")
    tokenizer, model = make_tokeniser([*pairs.sources, *pairs.targets]), make_bart()
    data = encode_pairs(model, tokenizer, pairs.sources, pairs.targets, LONGEST, LONGEST)
    print(f"{len(data):,} pairs, {data.tokens:,} tokens, {model.num_parameters():,} parameters", flush=True)
    began = time.perf_counter()

    def watch(step: int, steps: int, loss: float) -> None:
        if step % 100 == 0 or step == steps:
            print(f"step {step:,} of {steps:,}: loss {loss:.3f}, {time.perf_counter() - began:.0f} s", flush=True)

    train(model, TextLessons(data, tokenizer), SCHEDULE, watch=watch)
    model.save_pretrained(out / "bart")
    tokenizer.save_pretrained(out / "bart")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else "../shared/data/wikitext-2"))
