"""Loads the embedded default: a real model, read from this folder, without network."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
    ViTConfig,
    ViTForImageClassification,
)  # fmt: skip
from transformers.image_processing_utils import BaseImageProcessor
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from vp_core.demo.quantise import unpack
from vp_core.ground.store import DEMO_DIR

FOLDER = DEMO_DIR
TWIN = FOLDER / "normalised"
"""The spectrally normalised twin: its weights and configuration; the tokenizer is the demo's."""
TEXT = FOLDER / "text"
"""The small language model: weights, configuration, tokenizer, and stories to calibrate and to judge with."""
IMAGES = FOLDER / "images"
"""The small image classifier: weights, configuration, image processor, and scans of digits to calibrate and to judge with."""
MODEL_FILE = "model.safetensors"
TEXT_FILES = {"train": "train.txt", "test": "test.txt"}
IMAGE_FILES = {"train": "train.parquet", "test": "test.parquet"}
TIED = ("lm_head.weight", "model.embed_tokens.weight")
"""The head of the language model, which is not stored, and the embeddings that it is."""


def fill_buffers(model: BertForSequenceClassification) -> None:
    """Gives the two index buffers that no checkpoint stores their values; they would stay on the meta device."""
    embeddings = model.bert.embeddings
    positions = torch.arange(model.config.max_position_embeddings)[None]
    embeddings.register_buffer("position_ids", positions, persistent=False)
    embeddings.register_buffer("token_type_ids", torch.zeros_like(positions), persistent=False)


def load_model(folder: Path) -> BertForSequenceClassification:
    """The model stored in a folder, restored to float32, in evaluation mode."""
    config = BertConfig.from_pretrained(folder)
    with torch.device("meta"):  # no random initialisation only to overwrite it
        model = BertForSequenceClassification(config)
    model.load_state_dict(unpack(load_file(folder / MODEL_FILE)), strict=True, assign=True)
    fill_buffers(model)
    return model.eval()


def load_demo(folder: Path = FOLDER) -> tuple[BertForSequenceClassification, PreTrainedTokenizerBase]:
    """The demo's model (float32, evaluation mode) and tokenizer."""
    return load_model(folder), AutoTokenizer.from_pretrained(folder)


def load_twin() -> tuple[BertForSequenceClassification, PreTrainedTokenizerBase]:
    """The spectrally normalised twin and the tokenizer of both."""
    return load_model(TWIN), AutoTokenizer.from_pretrained(FOLDER)


def load_demo_text(folder: Path = TEXT) -> tuple[LlamaForCausalLM, PreTrainedTokenizerBase]:
    """The small language model (float32, evaluation mode, its head tied to its embeddings) and its tokenizer."""
    config = LlamaConfig.from_pretrained(folder)
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    state = unpack(load_file(folder / MODEL_FILE))
    head, embeddings = TIED
    model.load_state_dict(state | {head: state[embeddings]}, strict=True, assign=True)
    model.tie_weights()
    model.model.rotary_emb = LlamaRotaryEmbedding(config)  # its frequencies, which no checkpoint stores, are on the meta device
    return model.eval(), AutoTokenizer.from_pretrained(folder)


def text_files() -> dict[str, Path]:
    """split ("train", "test") → the stories that come with the language model."""
    return {split: TEXT / name for split, name in TEXT_FILES.items()}


def load_demo_images(folder: Path = IMAGES) -> tuple[ViTForImageClassification, BaseImageProcessor]:
    """The small image classifier (float32, evaluation mode) and its image processor."""
    config = ViTConfig.from_pretrained(folder)
    with torch.device("meta"):
        model = ViTForImageClassification(config)
    model.load_state_dict(unpack(load_file(folder / MODEL_FILE)), strict=True, assign=True)
    return model.eval(), ViTImageProcessorPil.from_pretrained(folder)
