"""Tiny random classifiers of every family, with tokenisers of their own, made in a moment and saved as real ones are."""

import hashlib

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast
from transformers.pytorch_utils import Conv1D

from vp_core.ground.names import TYPES
from vp_core.model.projections import find_projections
from vp_core.ranking.plan import Plan

FIRST_TOKEN = ("bert", "roberta", "distilbert", "electra", "xlm-roberta", "camembert", "mpnet")
"""Families whose classifier reads the first token only, which is made use of."""
BYTE_PAIRS = ("roberta", "bart", "mbart", "gpt2", "xlm-roberta", "camembert", "mpnet", "t5")
"""Families whose tiny tokeniser is made of byte pairs, with <s>, <pad> and </s>."""
OFFSET = ("roberta", "xlm-roberta", "camembert", "mpnet")
"""Families that count positions from 2 on."""
PAD_1 = (*OFFSET, "bart", "mbart")
"""Families that pad with token 1."""
ROTARY = ("llama", "modernbert", "mistral", "qwen2", "gemma", "gemma2", "phi", "phi3", "gpt_neox")
"""Families whose positions turn query and key, ..."""
NORMED = ("qwen3", "gemma3_text")
"""... and those in which each head of these has a norm besides."""
ALL_HEADS = ("mpnet", "t5", "beit")
"""Families in which each head has a position bias, so that none leaves the others."""
READS_END = ("bart", "t5", "mbart")
"""Families whose classifier reads the token that ends a text."""
FAMILIES = (*FIRST_TOKEN, "albert", "gpt2", "bart", "deberta-v2", "modernbert", "t5", "mbart")
"""Families whose sequence classifiers a Study takes."""
SEEING = ("vit", "deit", "dinov2", "beit", "clip")
"""Families whose image classifiers a Study takes."""
TRANSFORMERS = (*FAMILIES, *SEEING, "llama")
WRITERS = (
    "gpt2", "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi", "phi3", "gpt_neox", "opt"
)  # fmt: skip
"""Families of decoder language models."""
WIDE = 16
"""The width of a head where a family says it apart from hidden size and number of heads."""
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


def byte_pairs(family):
    """Byte-level BPE: RoBERTa's and BART's, or GPT-2's, which adds no tokens and has none for padding."""
    names = {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>", "mask": "<mask>"}
    if family == "gpt2":
        names = dict.fromkeys(("bos", "eos", "unk"), "<|endoftext|>")
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=list(names.values()), initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    made.train_from_iterator([" ".join(WORDS)], trainer)
    special = {f"{k}_token": v for k, v in names.items()}
    if family != "gpt2":
        made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
        special |= {"cls_token": "<s>", "sep_token": "</s>"}
    return made, special, ["input_ids", "attention_mask"]


def word_pieces(family):
    """WordPiece with segment ids, without them for DistilBERT."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {word: i for i, word in enumerate([*names, *(w.lower() for w in WORDS), *"abcdefghij"])}
    vocabulary = {word: i for i, word in enumerate(vocabulary)}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    segments = [] if family in ("distilbert", "modernbert") else ["token_type_ids"]
    return made, {f"{n[1:-1].lower()}_token": n for n in names}, ["input_ids", *segments, "attention_mask"]


def tokenizer(family):
    made, special, names = (byte_pairs if family in BYTE_PAIRS else word_pieces)(family)
    length = POSITIONS - 2 if family in OFFSET else POSITIONS
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=length, model_input_names=names, **special)


def sizes(family, hidden, ffn, layers):
    """The settings of a configuration by the family's own names."""
    usual = {"hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": HEADS, "intermediate_size": ffn}
    parts = {f"{part}_attention_heads": HEADS for part in ("encoder", "decoder")}
    parts |= {f"{part}_layers": layers for part in ("encoder", "decoder")}
    parts |= {f"{part}_ffn_dim": ffn for part in ("encoder", "decoder")}
    positions = {"max_position_embeddings": POSITIONS}
    shared = usual | positions | {"num_key_value_heads": HEADS // 2}
    wide = {"head_dim": WIDE}
    like_roberta = usual | positions | {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    seen = {"image_size": 32, "patch_size": 8}
    relative = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "share_att_key": True, "position_buckets": 4}
    ends = {"pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    return {
        "bert": usual | positions,
        "roberta": like_roberta | {"type_vocab_size": 1},
        "xlm-roberta": like_roberta | {"type_vocab_size": 1},
        "camembert": like_roberta | {"type_vocab_size": 1},
        "mpnet": like_roberta,
        "deberta-v2": usual
        | positions
        | relative
        | {"type_vocab_size": 2, "position_biased_input": False}
        | {"norm_rel_ebd": "layer_norm", "max_relative_positions": 8},
        "modernbert": usual
        | positions
        | {"local_attention": 8, "pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3}
        | {"bos_token_id": 2, "eos_token_id": 3},
        "t5": ends | {"d_model": hidden, "d_kv": hidden // HEADS, "d_ff": ffn, "num_layers": layers, "num_heads": HEADS},
        "distilbert": positions | {"dim": hidden, "n_layers": layers, "n_heads": HEADS, "hidden_dim": ffn},
        "electra": usual | positions | {"embedding_size": 24},
        "albert": usual | positions | {"embedding_size": 24},  # one layer, used several times
        "gpt2": {"n_embd": hidden, "n_layer": layers, "n_head": HEADS, "n_inner": ffn, "n_positions": POSITIONS}
        | {"bos_token_id": 0, "eos_token_id": 0},
        "bart": positions | parts | {"d_model": hidden},
        "mbart": positions | parts | {"d_model": hidden, "decoder_start_token_id": 2, "scale_embedding": True},
        "vit": usual | seen,
        "deit": usual | seen,
        "dinov2": usual | seen | {"mlp_ratio": max(1, round(ffn / hidden)), "layerscale_value": 0.7},
        "beit": usual | seen | {"use_relative_position_bias": True, "layer_scale_init_value": 0.7, "drop_path_rate": 0.0},
        "clip": {"vision_config": usual | seen | {"hidden_act": "quick_gelu"}},
        "llama": shared,
        "mistral": shared,
        "qwen2": shared,
        "qwen3": shared | wide,
        "gemma": shared | wide,
        "gemma2": shared | wide | {"query_pre_attn_scalar": 20, "sliding_window": 8},
        "gemma3_text": shared | wide | {"query_pre_attn_scalar": 20, "sliding_window": 8},
        "phi": usual | positions,
        "phi3": shared | {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
        "gpt_neox": usual | positions | {"rotary_pct": 0.5},
        "opt": usual | positions | {"ffn_dim": ffn, "word_embed_proj_dim": hidden},
    }[family]


def build(family, kind, **settings):
    """A random model of one of the family's classes, such as `ForSequenceClassification`."""
    names = {"roberta": "Roberta", "distilbert": "DistilBert", "gpt2": "GPT2", "vit": "ViT", "xlm-roberta": "XLMRoberta"}
    names |= {"deit": "DeiT", "clip": "CLIP"}
    names |= {"mbart": "MBart", "mpnet": "MPNet", "deberta-v2": "DebertaV2", "modernbert": "ModernBert"}
    names |= {"gemma3_text": "Gemma3", "gpt_neox": "GPTNeoX", "opt": "OPT"}
    name = names.get(family, family.capitalize())
    config = "Gemma3TextConfig" if family == "gemma3_text" else f"{name}Config"
    return getattr(transformers, name + kind)(getattr(transformers, config)(**settings)).eval()


def draw_biases(model, std=0.3):
    """Zero biases would hide a bias that is lost."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=std)
    return model


def classifier(family, outputs=2, seed=0):
    """A random model in float32 whose weights are large enough for its answers to depend on the text."""
    torch.manual_seed(seed)
    spread = {"bart": {"init_std": 0.25}, "mbart": {"init_std": 0.25}, "t5": {"initializer_factor": 1.5}}.get(
        family, {"initializer_range": 0.25}
    )
    layers = 1 if family in READS_END else LAYERS
    settings = {"vocab_size": 420, "num_labels": outputs} | spread | sizes(family, HIDDEN, FFN, layers)
    return draw_biases(build(family, "ForSequenceClassification", **settings))


def names(family):
    """The projections of a `classifier`: ALBERT uses one layer three times, BART's are encoder, decoder and cross attention."""
    found = [f"{layer}.{type_}" for layer in range(1 if family == "albert" else LAYERS) for type_ in TYPES]
    return found[:-2] if family in READS_END else found


NO_DROPOUT = dict.fromkeys(
    ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout", "resid_pdrop", "embd_pdrop",
     "attn_pdrop", "seq_classif_dropout", "classifier_dropout", "classifier_dropout_prob", "dropout_rate"), 0.0
)  # fmt: skip
KINDS = dict.fromkeys(WRITERS, "ForCausalLM") | {"gpt2": "LMHeadModel"}
KINDS |= dict.fromkeys(SEEING, "ForImageClassification")
KINDS |= dict.fromkeys(READS_END, "ForConditionalGeneration")


def transformer(family, seed=0, dtype=torch.float64, ffn=FFN, **others):
    """A tiny model of any family, of what it is mostly used for, whose outputs depend on every projection.

    Its four heads have 12 coordinates, a multiple of nothing that kernels want.
    """
    torch.manual_seed(seed)
    settings = sizes(family, 48, ffn, 2) | NO_DROPOUT | {"num_labels": 3} | ({} if family in SEEING else {"vocab_size": 99})
    model = draw_biases(build(family, KINDS.get(family, "ForSequenceClassification"), **settings | others))
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear | Conv1D):
                module.weight.normal_(std=0.3)
        for name, parameter in model.named_parameters():  # positions and scales that are all alike would hide what is mixed up
            if name.endswith(("lambda_1", "lambda_2", "lambda1", "bias_table")):
                parameter.copy_(0.4 + torch.rand(parameter.shape))
    return model.to(dtype)


def inputs(family, dtype=torch.float64, side="right"):
    """Three texts of 11, 7 and 4 tokens padded to 11 (of those that see: images; BART: also what it has written so far)."""
    draw = torch.Generator().manual_seed(4)
    if family in SEEING:
        return {"pixel_values": torch.randn(3, 3, 32, 32, generator=draw).to(dtype)}
    ids, mask = torch.randint(5, 99, (3, 11), generator=draw), torch.ones(3, 11, dtype=torch.long)
    mask[1, 7:] = mask[2, 4:] = 0
    if side == "left":
        mask = mask.flip(1)
    ids[mask == 0] = 1 if family in PAD_1 or family == "t5" else 0
    written = {"decoder_input_ids": torch.randint(5, 99, (3, 6), generator=draw)} if family in READS_END else {}
    return {"input_ids": ids, "attention_mask": mask} | written


def random_plan(model, share=0.5, seed=0, **by_type):
    """A plan that removes about this share of every projection's rows, or as `by_type` says."""
    draw, keep = torch.Generator().manual_seed(seed), {}
    for p in find_projections(model):
        keep[p.name] = torch.rand(p.d_out, generator=draw) >= by_type.get(p.type, share)
    return Plan(keep, "random", "global", share)


def random_constants(model, seed=0):
    """What removed rows are replaced with; one in four is 0."""
    draw, found = torch.Generator().manual_seed(seed), {}
    for p in find_projections(model):
        values = torch.randn(p.d_out, generator=draw, dtype=torch.float64)
        found[p.name] = values * (torch.rand(p.d_out, generator=draw) > 0.25)
    return found


def logits(model, given):
    """Outputs of a model for these inputs, of real tokens only where there is one for each token."""
    with torch.no_grad():
        found = model(**given).logits
    for_each_token = found.dim() == 3 and model.config.model_type in WRITERS
    return found[given["attention_mask"].bool()] if for_each_token else found


def distance(found, expected):
    """The largest difference, relative to the largest value."""
    return ((found - expected).abs().max() / expected.abs().max()).item()


def answers(model, tok, texts):
    """Logits of a plain loop, one text at a time, nothing shared with the code under test."""
    rows = []
    with torch.no_grad():
        for text in texts:
            parts = text if isinstance(text, tuple) else (text,)
            inputs = tok(*parts, return_tensors="pt", truncation=True, max_length=tok.model_max_length)
            rows.append(model(**inputs).logits[0])
    return torch.stack(rows)


def in_memory(model):
    """Whether all weights lie where torch puts what it makes (64-byte addresses), none in a file that is mapped."""
    return all(t.data_ptr() % 64 == 0 for t in (*model.parameters(), *model.buffers()))


def writer(family, seed=0):
    """A small random language model whose answers depend on the text, and its tokeniser of byte pairs, which adds no tokens."""
    torch.manual_seed(seed)
    spread = {"init_std": 0.25} if family == "opt" else {"initializer_range": 0.25}
    ends = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    settings = {"vocab_size": 420} | spread | sizes(family, HIDDEN, FFN, 2) | ends
    return draw_biases(build(family, KINDS[family], **settings)), tokenizer("gpt2")


def scribe(family, seed=0, **settings):
    """A small random model that writes about a text, in as many layers as a classifier's, and its tokeniser."""
    torch.manual_seed(seed)
    spread = {"initializer_factor": 1.5} if family == "t5" else {"init_std": 0.25}
    sized = {"vocab_size": 420} | spread | sizes(family, HIDDEN, FFN, 1) | NO_DROPOUT | settings
    model = draw_biases(build(family, "ForConditionalGeneration", **sized))
    if getattr(model, "final_logits_bias", None) is not None:
        model.final_logits_bias.normal_()
    return model, tokenizer(family)


def name_labels(model, *names):
    model.config.id2label = dict(enumerate(names))
    model.config.label2id = {name: i for i, name in enumerate(names)}
    return model


def make(family, names=("negative", "positive"), seed=0):
    """A model that says each label about equally often, and its tokeniser."""
    model, tok = classifier(family, len(names), seed), tokenizer(family)
    *_, last = (m for m in model.modules() if isinstance(m, torch.nn.Linear) and m.out_features == len(names))
    with torch.no_grad():
        said = answers(model, tok, sentences(100, seed=99)).median(dim=0).values
        if last.bias is None:  # GPT-2
            model.transformer.ln_f.bias -= torch.linalg.pinv(last.weight) @ said
        else:
            last.bias -= said
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
