"""The text of docs/support.md, from what was found by what models put out and by family."""

from collections.abc import Mapping, Sequence

from vp_core.check import Capability

ABOUT = """# What can be done with which family

Each cell was really done, with a tiny random model of the family.
`python -m docs.make_support` makes this page, and a test does it again.
`vp check MODEL` says the same of a model of your own before anything is measured.
A number stands for a reason below the table.

- **statistics**: mean and variance of every output neuron, covariances, gradients.
- **rows**: single rows removed as in the paper, their mean in the bias.
- **units**: rows that go together with the columns that read them, such as heads.
- **weights**: single weights, blocks, N:M and coresets, by every recipe there is for them.
- **best**: the recipe that loses least without fine-tuning.
- **squeeze**: the smaller dense model with the same answers; **save**: its folder, loaded again.
- **transformers**: the pruned model at its old shape, for `from_pretrained`; **ONNX**: the squeezed model in onnxruntime.
- **int8**: its score with all linear maps in 8 bits.
- **training**: `vp finetune` of the dense and of the squeezed model.

## Text classifiers

"""
OF_WRITERS = """
## Language models

Decoder language models of these families are opened with a text (`--task text --data FILE`, or `wikitext-2`).

- **units**, **squeeze**: heads of keys and values go with all the heads of queries that read them.
- **transformers**: where a bias has no place for what a removed row leaves, the squeezed folder has.
- **generation**: the squeezed model continues a text, with a cache, by the same tokens as the pruned one.

"""
OF_IMAGES = """
## Image classifiers

They are opened with a folder of images, or a Parquet file or data set that holds them (`--task images --data DIR`).

"""
OF_SEQUENCES = """
## Models that write about a text

They are opened with pairs of texts (`--task sequences --data FILE --text COLUMN --label COLUMN`).
Encoder, decoder and the attention by which the one reads the other are all measured and pruned.

"""
OF_HEADS = """
## Answers marked in a text, tagged words

Question answering (`--task squad`, `--task squad2`) and token classification (`--task tags`) put another head on them.
"yes" stands for statistics, rows, squeeze, save, int8 and training, each really done.

"""
REASONS = """
## Reasons

"""
SECTIONS = {"classes": ABOUT, "next tokens": OF_WRITERS, "images": OF_IMAGES, "target tokens": OF_SEQUENCES}
"""By what models put out (`vp_core.model.families.families_for`), what stands over their table."""
Rows = Mapping[str, Sequence[Capability]]
"""Family → what was found."""


def page(tables: Mapping[str, Rows], marks: Sequence[str], tags: Sequence[str]) -> str:
    """The page's text: what was found by what models put out, and the families that mark answers and that tag words."""
    reasons: list[str] = []
    parts = [f"{about}{_table(tables[kind], reasons)}" for kind, about in SECTIONS.items()]
    heads = ["| family | marks answers | tags words |", "|---|---|---|"]
    heads += [f"| {family} | {_said(family in marks)} | {_said(family in tags)} |" for family in dict.fromkeys((*marks, *tags))]
    numbered = "\n".join(f"{i}. {why}" for i, why in enumerate(reasons, 1))
    return f"{''.join(parts)}{OF_HEADS}{chr(10).join(heads)}\n{REASONS}{numbered}\n"


def _said(can: bool) -> str:
    return "yes" if can else "no"


def _table(rows: Rows, reasons: list[str]) -> str:
    """A line for each family; reasons that are new join `reasons`."""
    names = [one.name for one in next(iter(rows.values()))]
    lines = ["| family | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for family, found in rows.items():
        cells = []
        for one in found:
            if one.why and one.why not in reasons:
                reasons.append(one.why)
            mark = "yes" if one.can else "no"
            cells.append(f"{mark} ({reasons.index(one.why) + 1})" if one.why else mark)
        lines.append(f"| {family} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])
