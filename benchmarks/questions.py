"""Question answering against a plain loop as transformers' own example evaluates: the same questions, windows and cores.

python -m benchmarks.questions MODEL DIR [QUESTIONS]

MODEL is a model that marks answers, DIR holds SQuAD's JSON. The plain loop pads every window to `max_length`, gives the model 8
at a time, and looks for the answer among the pairs of the 20 best beginnings and ends; both include what makes answers and
scores of logits, and neither tokenising. Times of one run only are comparable; the ratio is what counts.
"""

import sys

import numpy as np
import torch

from benchmarks.measure import alternating, line
from vp_core.asking.evaluate import score
from vp_core.asking.kinds.answers import worth_of
from vp_core.asking.kinds.spans import LONGEST, Spans
from vp_core.ground.parallel import WORKERS
from vp_core.opening.study import open_study
from vp_core.study import Study

BATCH, TOP = 8, 20


def run(model: str, folder: str, questions: int = 200, repeats: int = 3) -> None:
    """Seconds of both, and how often they agree."""
    study = open_study(model, "squad", folder, sentences=questions)
    question = study.question
    assert isinstance(question, Spans)
    said: dict[str, float] = {}

    def ours() -> None:
        said["here"] = score(study.model, question).value

    def plain() -> None:
        torch.set_num_threads(WORKERS)
        said["plain"] = plain_score(study, question)
        torch.set_num_threads(1)

    seconds = alternating({"plain": plain, "here": ours}, repeats)
    print(f"{questions:,} questions: F1 {said['plain']:.4f} of the plain loop, {said['here']:.4f} here")
    print(f"{seconds['plain']:.2f} s of the plain loop, {seconds['here']:.2f} s here")
    line("question answering against a plain loop", seconds["plain"] / seconds["here"], "x", "1.5")


def plain_score(study: Study, question: Spans) -> float:
    """F1 by the plain loop."""
    data, width = question.data, question.data.max_length
    best: dict[int, tuple[float, str]] = {}
    for start in range(0, len(data), BATCH):
        members = range(start, min(start + BATCH, len(data)))
        inputs = {}
        for name, rows in data.together(members).inputs.items():
            inputs[name] = torch.full((len(rows), width), data.frame.pad_id if name == "input_ids" else 0)
            inputs[name][:, : rows.shape[1]] = rows
        with torch.inference_mode():
            found = study.model(**inputs)
        begins, ends = found.start_logits.numpy(), found.end_logits.numpy()
        for row, i in enumerate(members):
            q, first = int(data.of[i]), data.first(i)
            offsets = data.offsets[data.about[q]][data.begins[i] : data.ends[i]]
            for s in np.argsort(begins[row])[: -TOP - 1 : -1] - first:
                for e in np.argsort(ends[row])[: -TOP - 1 : -1] - first:
                    if not (0 <= s <= e < len(offsets) and e - s < LONGEST):
                        continue
                    total = float(begins[row, s + first] + ends[row, e + first])
                    if total > best.get(q, (-np.inf, ""))[0]:
                        best[q] = total, data.asked[q].paragraph[offsets[s][0] : offsets[e][1]]
    scores = [worth_of(best.get(q, (0.0, ""))[1], golds, False)[0] for q, golds in enumerate(question.golds)]
    return float(np.mean(scores))


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:4]))
