"""A full evaluation against transformers' own pipeline, on the same sentences and cores."""

from transformers import pipeline

from benchmarks.measure import alternating, line
from vp_core.asking.evaluate import score
from vp_core.model.precision import fast_precision
from vp_core.study import Study


def run(study: Study, texts: list[str]) -> None:
    peer = pipeline("text-classification", model=study.model, tokenizer=study.loaded.tokenizer, device="cpu")
    answers: dict[str, object] = {}

    def ours(precision: str) -> None:
        answers[precision] = score(study.model, study.question, precision).value

    def theirs() -> None:
        names = [study.model.config.id2label[i] for i in range(study.model.config.num_labels)]
        predictions = [names.index(a["label"]) for a in peer(texts, batch_size=32)]
        right = [study.question.order[p] == label for p, label in zip(predictions, study.question.labels, strict=True)]
        answers["pipeline"] = sum(right) / len(right)

    runs = {"pipeline": theirs, "float32": lambda: ours("float32")}
    if fast_precision() == "bfloat16":  # elsewhere it is many times slower, and nobody would take it
        runs["bfloat16"] = lambda: ours("bfloat16")
    seconds = alternating(runs, repeats=3)
    name = f"{study.question.task.name} dev, {len(study.question)} sentences"
    line(f"{name}: pipeline float32 / ours float32", seconds["pipeline"] / seconds["float32"], "x", ">= 2.6")
    if "bfloat16" in seconds:
        line(f"{name}: pipeline float32 / ours bfloat16", seconds["pipeline"] / seconds["bfloat16"], "x", ">= 8")
    line(f"{name}: ours float32", seconds["float32"], "s", "< 2 for the demo")
    print(f"  accuracy: {answers}")
