"""Tiny models that mark answers in a text, of every family that has one, and questions in SQuAD's JSON."""

import json

import numpy as np
import tiny
import torch

LENGTH = 38
"""Tokens of a window: all that the tiny models with positions from 2 on have."""
FAMILIES = (
    "albert", "bart", "bert", "camembert", "deberta-v2", "distilbert", "electra", "mbart", "modernbert", "mpnet", "roberta",
    "t5", "xlm-roberta",
)  # fmt: skip


def marker(family="bert", seed=0, **settings):
    """A random model in float32 whose answers depend on the text."""
    torch.manual_seed(seed)
    spread = {"bart": {"init_std": 0.25}, "mbart": {"init_std": 0.25}, "t5": {"initializer_factor": 1.5}}.get(
        family, {"initializer_range": 0.25}
    )
    layers = 1 if family in tiny.READS_END else tiny.LAYERS
    sizes = {"vocab_size": 420} | spread | tiny.NO_DROPOUT | tiny.sizes(family, tiny.HIDDEN, tiny.FFN, layers)
    return tiny.draw_biases(tiny.build(family, "ForQuestionAnswering", **sizes | settings))


def squad(n=12, seed=0, longest=60, unanswered=0.0):
    """SQuAD JSON with n questions, three about each paragraph of 10 to `longest` words; each answer is 1 to 5 of them."""
    rng, paragraphs = np.random.default_rng(seed), []
    for first in range(0, n, 3):
        words = list(rng.choice(tiny.WORDS, rng.integers(10, longest + 1)))
        text, asked = " ".join(words), []
        for number in range(first, min(first + 3, n)):
            answers = []
            for _ in range(rng.integers(1, 4)):
                start = int(rng.integers(0, len(words) - 5))
                answer = " ".join(words[start : start + rng.integers(1, 6)])
                answers.append({"text": answer, "answer_start": len(" ".join(words[:start])) + (start > 0)})
            none = bool(rng.random() < unanswered)
            one = {"id": f"{seed}-{number}", "question": " ".join(rng.choice(tiny.WORDS, rng.integers(2, 6)))}
            asked.append(one | {"answers": [] if none else answers} | ({"is_impossible": none} if unanswered else {}))
        paragraphs.append({"context": text, "qas": asked})
    return {"version": "1.1", "data": [{"title": "words", "paragraphs": paragraphs}]}


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def folder(base, n=24, unanswered=0.0):
    """A folder with the evaluation and the training questions of one of the two versions."""
    version = "v2.0" if unanswered else "v1.1"
    write(base / f"dev-{version}.json", squad(n, 1, unanswered=unanswered))
    write(base / f"train-{version}.json", squad(2 * n, 2, unanswered=unanswered))
    return base


def save(base, family="bert", seed=0):
    """A folder with a tiny model and its tokeniser."""
    return tiny.save(base, marker(family, seed), tiny.tokenizer(family))
