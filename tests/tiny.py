"""Tiny random classifiers of every family, with tokenisers of their own, made in a moment and saved as real ones are."""

import hashlib

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
)

FAMILIES = ("bert", "roberta", "distilbert", "electra")
LAYERS, HIDDEN, HEADS, FFN, POSITIONS = 3, 32, 4, 56, 40
_WORDS = """
a the film book meal hotel plot actor was is seemed felt never always quite rather very hardly dull
bright slow quick warm cold lovely awful fine great poor and but yet with without every scene page
plate room I we they liked loved hated left
"""
WORDS = _WORDS.split()


def sentences(n, seed=0, longest=24):
    """Random word salads of 2 to `longest` words."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(2, longest + 1))) for _ in range(n)]


def tokenizer(family):
    """WordPiece with segment ids, or byte-level BPE for RoBERTa."""
    if family == "roberta":
        names = {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>", "mask": "<mask>"}
        made = Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        made.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=400, special_tokens=list(names.values()), initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
        )
        made.train_from_iterator([" ".join(WORDS)], trainer)
        made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
        special = {f"{k}_token": v for k, v in names.items()} | {"cls_token": "<s>", "sep_token": "</s>"}
        inputs = ["input_ids", "attention_mask"]
    else:
        names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        vocabulary = {word: i for i, word in enumerate([*names, *(w.lower() for w in WORDS), *"abcdefghij"])}
        vocabulary = {word: i for i, word in enumerate(vocabulary)}
        made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
        made.normalizer = normalizers.BertNormalizer(lowercase=True)
        made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        made.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
        special = {f"{n[1:-1].lower()}_token": n for n in names}
        inputs = (
            ["input_ids", "attention_mask"] if family == "distilbert" else ["input_ids", "token_type_ids", "attention_mask"]
        )
    length = POSITIONS - 2 if family == "roberta" else POSITIONS
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=length, model_input_names=inputs, **special)


def classifier(family, outputs=2, seed=0):
    """A random model in float32 whose weights are large enough for its answers to depend on the text."""
    sizes = {"vocab_size": 420, "max_position_embeddings": POSITIONS, "num_labels": outputs, "initializer_range": 0.25}
    usual = {"hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "intermediate_size": FFN}
    torch.manual_seed(seed)
    if family == "bert":
        model = BertForSequenceClassification(BertConfig(**sizes, **usual))
    elif family == "roberta":
        special = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "type_vocab_size": 1}
        model = RobertaForSequenceClassification(RobertaConfig(**sizes, **usual, **special))
    elif family == "electra":
        model = ElectraForSequenceClassification(ElectraConfig(**sizes, **usual, embedding_size=24))
    else:
        renamed = {"dim": HIDDEN, "n_layers": LAYERS, "n_heads": HEADS, "hidden_dim": FFN}
        model = DistilBertForSequenceClassification(DistilBertConfig(**sizes, **renamed))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):  # zero biases would hide a bias that is lost
                parameter.normal_(std=0.3)
    return model.eval()


def answers(model, tok, texts):
    """Logits of a plain loop, one text at a time, nothing shared with the code under test."""
    rows = []
    with torch.no_grad():
        for text in texts:
            parts = text if isinstance(text, tuple) else (text,)
            inputs = tok(*parts, return_tensors="pt", truncation=True, max_length=tok.model_max_length)
            rows.append(model(**inputs).logits[0])
    return torch.stack(rows)


def name_labels(model, *names):
    model.config.id2label = dict(enumerate(names))
    model.config.label2id = {name: i for i, name in enumerate(names)}
    return model


def make(family, names=("negative", "positive"), seed=0):
    """A model that says each label about equally often, and its tokeniser."""
    model, tok = classifier(family, len(names), seed), tokenizer(family)
    *_, last = (m for m in model.modules() if isinstance(m, torch.nn.Linear) and m.out_features == len(names))
    with torch.no_grad():
        last.bias -= answers(model, tok, sentences(100, seed=99)).median(dim=0).values
    return name_labels(model, *names), tok


def save(folder, model, tok):
    model.save_pretrained(folder)
    tok.save_pretrained(folder)
    return folder


def write_tsv(path, header, rows):
    lines = ["\t".join(header), *("\t".join(str(v) for v in row) for row in rows)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def sha(model):
    """SHA-256 of all weights and buffers by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted([*model.named_parameters(), *model.named_buffers()]):
        digest.update(name.encode() + tensor.detach().numpy().tobytes())
    return digest.hexdigest()


def hooks(model):
    """How many hooks of any kind are on the model."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(module, kind)) for module in model.modules() for kind in kinds)
