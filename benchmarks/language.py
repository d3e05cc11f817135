"""A language model on a text: statistics against its forward passes, perplexity against a plain loop of windows."""

import torch
from torch.nn import functional as F
from transformers import PreTrainedModel

from benchmarks.measure import alternating, line
from vp_core.asking.batches import Batch, make_batches
from vp_core.asking.evaluate import score
from vp_core.ground.parallel import WORKERS, in_parallel
from vp_core.measuring.statistics import collect
from vp_core.opening.study import open_study
from vp_core.squeezing.timing import all_cores

WINDOW, TOKENS = 256, 4096


def run(model: str, task: str, data: str | None, repeats: int = 3) -> None:
    study = open_study(
        model, task, data, max_length=WINDOW, stride=WINDOW // 2, most_tokens=TOKENS, calibration=TOKENS // WINDOW, device="cpu"
    )
    batches = make_batches(study.calibration, range(len(study.calibration)))

    def forward(batch: Batch) -> None:
        with torch.inference_mode():
            study.model(**batch.inputs, use_cache=False)

    passes = {
        "passes": lambda: list(in_parallel(forward, batches)),
        "collect": lambda: collect(study.model, batches),
    }
    seconds = alternating(passes, repeats)
    line("statistics of a language model / the same forward passes", seconds["collect"] / seconds["passes"], "x", "<= 1.25")
    found: dict[str, float] = {}

    def plain() -> None:
        with all_cores():
            found["plain"] = plain_loop(study.model, study.question.data.ids, study.question.wanted)

    def ours() -> None:
        found["ours"] = score(study.model, study.question).value

    seconds = alternating({"plain": plain, "ours": ours}, repeats)
    ratio = seconds["plain"] / seconds["ours"]
    line(f"perplexity: a plain loop of windows, {WORKERS} cores / ours", ratio, "x", ">= 1.5")
    print(f"  perplexity: {found}")


def plain_loop(model: PreTrainedModel, windows, wanted) -> float:
    """Perplexity as transformers' own guide takes it: a window after another, all logits, what was told before not counted."""
    total = tokens = 0.0
    for ids, predicted in zip(windows, wanted, strict=True):
        row = torch.tensor([list(ids)])
        target = row.clone()
        target[:, : len(ids) - len(predicted)] = -100
        with torch.no_grad():
            logits = model(row, labels=None).logits.float()
        loss = F.cross_entropy(logits[0, :-1], target[0, 1:], ignore_index=-100, reduction="sum")
        total, tokens = total + float(loss), tokens + len(predicted)
    return float(torch.tensor(total / tokens).exp())


if __name__ == "__main__":
    import sys

    run(sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None)
