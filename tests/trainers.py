"""A transformers Trainer on the batches of our own loop, in its order."""

import numpy as np
import tiny
import torch
from torch.utils.data import SequentialSampler
from trainings import lessons, model_of
from transformers import Trainer, TrainerCallback, TrainingArguments

from vp_core.training.schedule import Schedule

SHORT = Schedule(epochs=3, batch=8, lr=3e-3, warm_up=0.25, weight_decay=0.1, precision="float32")
"""Twelve steps of eight texts."""


def plain_model(seed=0, family="bert"):
    """Without dropout, whose random numbers differ; of gradients that are clipped.

    In float64: the gradient of a key's bias is 0 but for rounding, and Adam makes steps of any gradient.
    """
    return dropping_model(seed, family, **tiny.NO_DROPOUT).double()


def dropping_model(seed=0, family="bert", **settings):
    model = model_of(family, seed=seed, **settings)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() == 2:
                p.mul_(6)
            if name.endswith("bias"):
                p.normal_(std=0.1)
    return model


class InOrder(Trainer):
    loss_is_scaled_for_ga = False
    """Classifiers' losses are means of a batch; the Trainer takes them for scaled, since their models take keywords for it."""

    def _get_train_sampler(self, train_dataset=None):
        return SequentialSampler(self.train_dataset)


def examples(learnt, schedule, seed=0):
    """What our loop sees, in its order."""
    order = np.concatenate(learnt.mini_batches(schedule, seed))
    return [{"input_ids": list(learnt.data.ids[i]), "labels": int(learnt.targets[i])} for i in order]


def padded(rows):
    width = max(len(row["input_ids"]) for row in rows)
    ids = torch.tensor([row["input_ids"] + [0] * (width - len(row["input_ids"])) for row in rows])
    mask = torch.tensor([[1] * len(row["input_ids"]) + [0] * (width - len(row["input_ids"])) for row in rows])
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor([row["labels"] for row in rows])}


def arguments(folder, schedule=SHORT, accumulate=1, processes=1, **others):
    steps = schedule.epochs * 32 // schedule.batch
    usual = {
        "output_dir": str(folder), "max_steps": steps, "per_device_train_batch_size": schedule.batch // accumulate // processes,
        "gradient_accumulation_steps": accumulate, "learning_rate": schedule.lr, "weight_decay": schedule.weight_decay,
        "warmup_steps": int(schedule.warm_up * steps), "lr_scheduler_type": "linear", "save_strategy": "no", "use_cpu": True,
        "report_to": [], "disable_tqdm": True, "logging_strategy": "no", "optim": "adamw_torch", "eval_strategy": "no",
        "dataloader_pin_memory": False, "average_tokens_across_devices": False,
    }  # fmt: skip
    return TrainingArguments(**usual | others)


def trainer(model, callback, folder, schedule=SHORT, learnt=None, kind=InOrder, **others):
    learnt = learnt or lessons()
    rows = examples(learnt, schedule)
    return kind(
        model, arguments(folder, schedule, **others), train_dataset=rows, eval_dataset=rows[:8], data_collator=padded,
        callbacks=[callback] if isinstance(callback, TrainerCallback) else callback,
    )  # fmt: skip
