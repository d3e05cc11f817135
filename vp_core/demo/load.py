"""Loads the embedded default: a real model, read from this folder, without network."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification, PreTrainedTokenizerBase

from vp_core.demo.quantise import unpack
from vp_core.ground.store import DEMO_DIR

FOLDER = DEMO_DIR
TWIN = FOLDER / "normalised"
"""The spectrally normalised twin: its weights and configuration; the tokenizer is the demo's."""
MODEL_FILE = "model.safetensors"


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
