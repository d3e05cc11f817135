"""The paper in our size: `python -m benchmarks.pretraining [--steps N] [--examples N] [--tasks mrpc stsb] [--out FILE]`.

An encoder goes on with its pre-training on WikiText-2 by masked words, while half of the rows of every type go in five cuts (by
variance, or at random), or none; then each is fine-tuned on tasks, with and without the dense checkpoint of the task as its
teacher. Table 1's form: the score with distillation, that without it in parentheses. The encoder is that of minilm-sst2, which
has been fine-tuned on another task than these: there is no plain MiniLM at hand. Few steps by default, so the numbers say that
it works, not how well. `VP_SHARED` says where models and data are.
"""

import argparse
import json
import os
import time
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from vp_core.asking.batches import make_batches
from vp_core.asking.words.masking import SHARE, mask_batch
from vp_core.gradual.cuts import Cuts
from vp_core.gradual.rows import GradualRows
from vp_core.ground.store import atomic
from vp_core.opening.study import open_study
from vp_core.running.finetune import fine_tune, study_of
from vp_core.running.lessons import lessons_of
from vp_core.running.pretrain import classifier_of, open_masked_lm, windows
from vp_core.squeezing.squeeze import squeeze
from vp_core.study import Study
from vp_core.training.loop import train
from vp_core.training.objectives import MaskedWords
from vp_core.training.schedule import Schedule

FORMS = {"full": None, "50 % sparse (VP)": "variance", "50 % sparse (random)": "random"}
ENCODER, SEED, CUTS = "minilm-sst2", 0, 5
LENGTH, BATCH, HELD_OUT = 128, 16, 64
"""Tokens of a window, windows of a step, and windows of the validation text."""


def shared() -> Path:
    """Where models and data are."""
    return Path(os.environ.get("VP_SHARED", "../shared"))


def pretrained(form: str, steps: int) -> tuple[PreTrainedModel, GradualRows | None, dict[str, Any]]:
    """(the encoder with its masked-word head in dense shapes, what pruned it, losses and time) after so many steps."""
    model, tokenizer = open_masked_lm(str(shared() / "models" / ENCODER), lambda news: print(f"  {news}"), seed=SEED)
    text = shared() / "data" / "wikitext-2"
    objective = MaskedWords(windows(tokenizer, text / "train.txt", LENGTH, steps * BATCH), tokenizer, seed=SEED)
    held_out = MaskedWords(windows(tokenizer, text / "valid.txt", LENGTH, HELD_OUT), tokenizer)
    criterion, pruner = FORMS[form], None
    if criterion:
        every = max(1, steps // (CUTS + 3))
        pruner = GradualRows(Cuts(every, every, 0.1, 0.5), criterion, seed=SEED, squeezed="last")
    schedule = Schedule(batch=BATCH, lr=1e-4, seed=SEED)
    before, start = held_out_loss(model, held_out), time.perf_counter()
    loss = train(model, objective, schedule, callbacks=[pruner] if pruner else [], tell=lambda news: print(f"  {news}"))
    seconds = time.perf_counter() - start
    found = {"steps": steps, "training_loss": loss, "seconds": round(seconds, 1), "loss_before": before}
    return model.eval(), pruner, found | {"loss_after": held_out_loss(model, held_out)}


def held_out_loss(model: PreTrainedModel, objective: MaskedWords) -> float:
    """Mean cross-entropy of the masked words of windows that are not trained on."""
    total, words, training = 0.0, 0, model.training
    model.eval()
    for batch in make_batches(objective.data, range(len(objective.data)), 2048):
        masked = mask_batch(objective.tokenizer, objective.data, batch, SHARE, (SEED,))
        with torch.no_grad():
            logits = model(**masked.batch.inputs).logits[masked.rows, masked.columns]
        total, words = total + float(cross_entropy(logits.double(), masked.ids, reduction="sum")), words + len(masked.ids)
    model.train(training)
    return total / words


@cache
def study(task: str) -> Study:
    """The task's dense checkpoint, which is the teacher, on its development set."""
    return open_study(str(shared() / "models" / f"minilm-{task}"), task, shared() / "data" / task)


def tuned(task: str, model: PreTrainedModel, pruner: GradualRows | None, examples: int) -> dict[str, Any]:
    """Scores on a task of the encoder under a new head, squeezed where it was pruned, with and without the teacher."""
    dense = study(task)
    learner = classifier_of(model, dense.model, SEED)
    if pruner is not None:
        learner = squeeze(learner, pruner.plan())
    lessons = lessons_of(dense, task, shared() / "data" / task)
    schedule = Schedule(examples=min(examples, len(lessons.data)), lr=1e-4, seed=SEED)
    own = study_of(dense, learner, f"{task} pre-trained")
    found = {}
    for name, teacher in (("without", None), ("with", dense.loaded)):
        done = fine_tune(own, lessons, schedule, teacher=teacher)
        found[name] = {"seconds": round(done.seconds, 1), **done.after.as_json()}
        print(f"  {task} {name} a teacher: {found[name]}", flush=True)
    return found


def page(rows: dict[str, Any], tasks: list[str]) -> str:
    """Table 1's form, in markdown."""
    heads = [f"{task} {name}" for task in tasks for name in _names(rows, task)]
    lines = ["| model | masked-word loss | " + " | ".join(heads) + " |", "|---|--:|" + "--:|" * len(heads)]
    for form, row in rows.items():
        cells = [f"{row['pretraining']['loss_before']:.2f} → {row['pretraining']['loss_after']:.2f}"]
        for task in tasks:
            without, taught = (row["tasks"][task][name] for name in ("without", "with"))
            cells += [f"{100 * _value(taught, n):.1f} ({100 * _value(without, n):.1f})" for n in _names(rows, task)]
        lines.append(f"| {form} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _names(rows: dict[str, Any], task: str) -> list[str]:
    """The metric of a task, and its others."""
    score = next(iter(rows.values()))["tasks"][task]["without"]
    return [score["metric"], *(name for name in score if name not in ("metric", "value", "low", "high", "n", "seconds"))]


def _value(score: dict[str, Any], name: str) -> float:
    return score["value"] if score["metric"] == name else score[name]


def main() -> None:
    """Pre-train, prune, fine-tune, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40, help="optimiser steps of pre-training")
    parser.add_argument("--examples", type=int, default=512, help="examples of fine-tuning")
    parser.add_argument("--tasks", nargs="+", default=["mrpc", "stsb"])
    parser.add_argument("--out", type=Path, help="a JSON file for the numbers")
    asked = parser.parse_args()
    rows: dict[str, Any] = {}
    for form in FORMS:
        print(form, flush=True)
        model, pruner, losses = pretrained(form, asked.steps)
        print(f"  {losses}", flush=True)
        rows[form] = {"pretraining": losses, "cuts": [] if pruner is None else pruner.cuts()}
        rows[form]["tasks"] = {task: tuned(task, model, pruner, asked.examples) for task in asked.tasks}
        if asked.out:
            with atomic(asked.out) as temporary:
                temporary.write_text(json.dumps({"encoder": ENCODER, "seed": SEED, "rows": rows}, indent=1) + "\n")
    print(page(rows, asked.tasks))


if __name__ == "__main__":
    main()
