"""Fine-tunes the encoder on the written reviews, and measures it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm
from transformers import BertForSequenceClassification, PreTrainedTokenizerBase, get_linear_schedule_with_warmup

Rows = list[tuple[str, int]]
POOL = 32  # batches sorted by length together
AVERAGE_EVERY = 5  # steps between two weights that go into the average


@dataclass(frozen=True)
class TrainSettings:
    """How the model is tuned."""

    seed: int = 20
    epochs: int = 6
    batch: int = 32
    lr: float = 1e-4
    weight_decay: float = 0.01
    warm_up: float = 0.1
    label_smoothing: float = 0.05
    average_from: float = 0.3
    threads: int = 2


def encode(tokenizer: PreTrainedTokenizerBase, sentences: list[str]) -> dict[str, Tensor]:
    """A padded batch of sentences, (sentences, tokens) each."""
    return dict(tokenizer(sentences, padding=True, truncation=True, return_tensors="pt"))


@torch.inference_mode()
def predict(
    model: BertForSequenceClassification, tokenizer: PreTrainedTokenizerBase, sentences: list[str], batch: int = 64
) -> Tensor:
    """The logits (sentences, labels) of each sentence, float32."""
    model.eval()
    starts = range(0, len(sentences), batch)
    return torch.cat([model(**encode(tokenizer, sentences[start : start + batch])).logits for start in starts])


def accuracy(model: BertForSequenceClassification, tokenizer: PreTrainedTokenizerBase, rows: Rows) -> float:
    """The share of rows whose more likely label is the right one."""
    logits = predict(model, tokenizer, [sentence for sentence, _ in rows])
    return (logits.argmax(dim=1) == torch.tensor([label for _, label in rows])).double().mean().item()


def freeze_embeddings(model: BertForSequenceClassification) -> None:
    """Keeps the token vectors as pre-training left them.

    Tuning moves only the vectors of words that the training reviews contain, away from their unseen synonyms.
    """
    model.bert.embeddings.requires_grad_(False)


def batches(rows: Rows, size: int, generator: torch.Generator) -> list[Rows]:
    """One epoch in a random order; each batch holds sentences of like length, so that little of it is padding."""
    order = torch.randperm(len(rows), generator=generator).tolist()
    pools = [
        sorted(order[start : start + POOL * size], key=lambda index: len(rows[index][0]))
        for start in range(0, len(rows), POOL * size)
    ]
    found = [pool[start : start + size] for pool in pools for start in range(0, len(pool), size)]
    shuffled = torch.randperm(len(found), generator=generator).tolist()
    return [[rows[index] for index in found[place]] for place in shuffled]


def groups_of(parameters: list[torch.nn.Parameter]) -> list[dict[str, Any]]:
    """Matrices decay, vectors do not."""
    return [
        {"params": [parameter for parameter in parameters if parameter.ndim > 1]},
        {"params": [parameter for parameter in parameters if parameter.ndim == 1], "weight_decay": 0.0},
    ]


def fine_tune(
    model: BertForSequenceClassification, tokenizer: PreTrainedTokenizerBase, rows: Rows, settings: TrainSettings
) -> None:
    """Tunes the model in place: AdamW, linear warm-up and decay, the dropout of its config, bfloat16 products.

    The result is the mean of the late weights (Izmailov et al. 2018): it reads words and turns of phrase that training
    never saw better than the last weights do.
    """
    freeze_embeddings(model)
    model.train()

    def loss_of(chosen: Rows, _generator: torch.Generator) -> Tensor:
        inputs = encode(tokenizer, [sentence for sentence, _ in chosen])
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(**inputs).logits
        labels = torch.tensor([label for _, label in chosen])
        return cross_entropy(logits.float(), labels, label_smoothing=settings.label_smoothing)

    descend(model, rows, settings, loss_of, "fine-tuning")


def descend(
    model: BertForSequenceClassification, rows: Rows, settings: TrainSettings,
    loss_of: Callable[[Rows, torch.Generator], Tensor], name: str,
) -> None:  # fmt: skip
    """Every step of a training, in place, on a model that is in training mode; it ends with the mean of the late weights.

    `loss_of` gives the loss, a tensor (), from the rows of a step and the generator that drew their order.
    """
    tuned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(groups_of(tuned), lr=settings.lr, weight_decay=settings.weight_decay)
    generator = torch.Generator().manual_seed(settings.seed)
    steps = [chosen for _ in range(settings.epochs) for chosen in batches(rows, settings.batch, generator)]
    schedule = get_linear_schedule_with_warmup(optimiser, int(settings.warm_up * len(steps)), len(steps))
    average = AveragedModel(model)
    for step, chosen in enumerate(bar := tqdm(steps, desc=name, unit="step")):
        loss = loss_of(chosen, generator)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(tuned, 1.0)
        optimiser.step()
        schedule.step()
        if step >= settings.average_from * len(steps) and step % AVERAGE_EVERY == 0:
            average.update_parameters(model)
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    model.load_state_dict(average.module.state_dict())
    model.eval()
