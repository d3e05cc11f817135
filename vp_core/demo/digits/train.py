"""Trains the small image classifier from nothing, and measures it."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm
from transformers import ViTConfig, ViTForImageClassification, get_cosine_schedule_with_warmup

from vp_core.demo.digits.scans import NAMES
from vp_core.demo.making.train import groups_of


@dataclass(frozen=True)
class TrainSettings:
    """The model's size and how it is trained; each time a scan is turned by up to `turn` degrees, moved by up to `move` pixels
    and resized by up to `resize`."""

    seed: int = 17
    image: int = 8
    patch: int = 2
    hidden: int = 96
    layers: int = 4
    heads: int = 6
    ffn: int = 384
    train: int = 1297
    epochs: int = 120
    batch: int = 64
    lr: float = 1e-3
    weight_decay: float = 0.1
    smoothing: float = 0.05
    warm_up: float = 0.05
    turn: float = 12.0
    move: float = 0.8
    resize: float = 0.12
    threads: int = 1


def make_model(settings: TrainSettings) -> ViTForImageClassification:
    """A model with random weights."""
    config = ViTConfig(
        image_size=settings.image,
        patch_size=settings.patch,
        hidden_size=settings.hidden,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        intermediate_size=settings.ffn,
        id2label=dict(enumerate(NAMES)),
        label2id={name: i for i, name in enumerate(NAMES)},
        hidden_dropout_prob=0.05,
        architectures=["ViTForImageClassification"],
    )
    return ViTForImageClassification(config)


def pixels(images: np.ndarray) -> Tensor:
    """What the model is given of grey images (n, height, width) uint8: (n, 3, height, width), from −1 to 1."""
    return torch.tensor(images)[:, None].expand(-1, 3, -1, -1).float() / 127.5 - 1


def disturbed(values: Tensor, settings: TrainSettings, generator: torch.Generator) -> Tensor:
    """Images (n, 3, height, width), each turned, moved and resized at random; what comes in from outside is black."""
    turn, size, *move = torch.rand(4, len(values), generator=generator) * 2 - 1
    angle = turn * math.radians(settings.turn)
    scale = 1 + size * settings.resize
    step = 2 * settings.move / values.shape[-1]
    rows = [
        torch.stack([scale * angle.cos(), -scale * angle.sin(), move[0] * step], dim=1),
        torch.stack([scale * angle.sin(), scale * angle.cos(), move[1] * step], dim=1),
    ]
    grid = F.affine_grid(torch.stack(rows, dim=1), list(values.shape), align_corners=False)
    return F.grid_sample(values + 1, grid, align_corners=False) - 1


def train(model: ViTForImageClassification, images: np.ndarray, labels: np.ndarray, settings: TrainSettings) -> None:
    """Every step of the training, in place: AdamW, a short warm-up, then a cosine to 0. The model ends in evaluation mode."""
    values, wanted = pixels(images), torch.tensor(labels)
    steps = -(-len(values) // settings.batch) * settings.epochs
    optimiser = torch.optim.AdamW(groups_of(list(model.parameters())), lr=settings.lr, weight_decay=settings.weight_decay)
    schedule = get_cosine_schedule_with_warmup(optimiser, int(settings.warm_up * steps), steps)
    generator = torch.Generator().manual_seed(settings.seed)
    model.train()
    for _ in tqdm(range(settings.epochs), desc="training", unit="epoch"):
        for part in torch.randperm(len(values), generator=generator).split(settings.batch):
            logits = model(pixel_values=disturbed(values[part], settings, generator)).logits
            loss = F.cross_entropy(logits, wanted[part], label_smoothing=settings.smoothing)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
    model.eval()


@torch.inference_mode()
def accuracy(model: ViTForImageClassification, images: np.ndarray, labels: np.ndarray) -> float:
    """Share of images that the model names right."""
    said = model(pixel_values=pixels(images)).logits.argmax(dim=1).numpy()
    return float((said == labels).mean())
