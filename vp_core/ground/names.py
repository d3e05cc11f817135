"""Every vocabulary of the tool, declared once: what can be chosen, by the names that code, command line, page and files use.

Nothing heavy is imported here, so that `vp --help` and `Recipe` cost nothing. What each word does stands where it is done
(the column on the right); a test holds the tables there to these names.
"""

from collections.abc import Mapping
from types import MappingProxyType

TYPES = ("query", "key", "value", "attention_output", "ffn_in", "ffn_out")
"""Projection types: W_Q, W_K, W_V, W_O, W_FF1, W_FF2 of the paper, in forward order (`vp_core.model.families`)."""
ASKED = ("classes", "tokens", "spans", "images", "sequences", "tags", "own")
"""What a model can be asked (`vp_core.asking.kinds`): classes, values or labels of texts; the tokens of a text; spans of a text
that answer a question; classes of images; texts written about texts; a tag for every word; and whatever a function measures."""
WORD_EMBEDDINGS = "word_embeddings"
"""One more matrix whose weights may go (Compressing BERT, section 3.1); it has no rows that a plan speaks of."""
UNITS = ("rows", "ffn neurons", "values", "pairs", "heads", "attention", "feed-forward", "sublayers", "layers")
"""What goes together (`vp_core.model.units`). Bare `ffn` is a kind of block and a mode, the whole network."""
WHOLE = ("attention", "feed-forward", "sublayers", "layers")
"""Kinds of units that go with their outputs; a mean takes the place of these."""
WEIGHT_UNITS = ("weights", "blocks", "2:4", "4:8", "columns")
"""Units of single weights that are offered; any N:M and `blocks RxC` are units too (`vp_core.ground.patterns`)."""
ESTIMATORS = ("exact", "ewmv")
"""How a variance is taken over batches (`vp_core.measuring.statistics`)."""
EMBEDDED_TASKS = ("demo", "demo-text", "demo-images")
"""Tasks whose data comes with the package (`vp_core.demo`)."""
CALIBRATION = 512
"""Training sentences that statistics are collected on, unless asked otherwise. Their labels are never looked at."""
CALIBRATION_WINDOWS = 128
"""Windows of a long text that they are collected on."""
CRITERIA = (
    "variance", "random", "magnitude", "weighted variance", "conditional variance", "surgeon", "wanda", "fisher",
    "function norm",
)  # fmt: skip
"""What makes a unit worth keeping (`vp_core.ranking.criteria`, of single weights `vp_core.weights.criteria`)."""
WEIGHT_CRITERIA = ("magnitude", "random", "wanda", "fisher", "surgeon", "coreset")
"""Those that score single weights; `coreset` draws whole columns (`vp_core.weights.coreset`)."""
PAPER_CRITERIA = ("variance", "random", "magnitude")
"""The paper's criterion and its two baselines: what a chart compares, unless asked otherwise."""
SCOPES = ("per type", "per layer", "global", "scaled", "measured")
"""Who competes with whom (`vp_core.ranking.plan.rank`). `measured` is `global` on scores that `vp_core.ranking.allocation` has
made comparable."""
WEIGHT_SCOPES = ("per matrix", "per type", "global", "per row")
"""Who competes with whom among single weights (`vp_core.weights.order`): per matrix in Compressing BERT, per row in Wanda."""
BUDGETS = ("units", "parameters", "flops", "latency")
"""What a sparsity is a share of: units of each competition, linear parameters, FLOPs, or measured time of a forward pass."""
REPLACEMENTS = ("mean", "zero", "least squares", "refit")
"""What takes the place of what was removed (`vp_core.replacing.ladder`, of single weights `vp_core.replacing.by_mask`)."""
WEIGHT_REPLACEMENTS = ("zero", "mean", "least squares", "inverse probability")
"""Those of single weights; `inverse probability` weighs drawn columns as a coreset does (`vp_core.weights.coreset`)."""
ALL_CRITERIA = tuple(dict.fromkeys((*CRITERIA, *WEIGHT_CRITERIA)))
ALL_SCOPES = tuple(dict.fromkeys((*SCOPES, *WEIGHT_SCOPES)))
ALL_REPLACEMENTS = tuple(dict.fromkeys((*REPLACEMENTS, *WEIGHT_REPLACEMENTS)))
"""Of rows, of units made of rows, and of single weights; `vp_core.ground.chosen` says what goes with which."""
BASES = ("neurons", "principal")
"""The coordinates of heads (`vp_core.replacing.principal`)."""
PRECISIONS = ("float32", "bfloat16", "int8")
"""The arithmetic a model is run in (`vp_core.model.precision`)."""
DEVICES = ("auto", "cpu", "cuda", "mps")
"""Where a model is run (`vp_core.model.precision`); cuda:1 is the second of several."""
DTYPES = ("float32", "bfloat16", "float16")
"""How a model's weights are kept (`vp_core.loading.load`); in what they are multiplied is the precision."""
AUTO = "auto"
"""No precision is named: bfloat16 where the processor is made for it, else float32 (`vp_core.model.precision`)."""
TRAINING_PRECISIONS = (AUTO, "float32", "bfloat16")
"""The arithmetic a model is trained in (`vp_core.training.loop`): bfloat16 is for products only, weights stay float32."""
REPEATS = 7
"""Timed rounds of a measurement of speed (`vp_core.squeezing.timing`)."""
FORMATS = ("pruned", "transformers", "onnx")
"""How a smaller model is written (`vp_core.squeezing.folder`, `vp_core.squeezing.onnx`)."""
KINDS = ("head", "attention", "ffn")
"""Kinds of blocks, residual mappings as a whole (`vp_core.model.blocks`)."""
MODES: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "heads": ("head",),
    "ffn": ("ffn",),
    "joint": ("head", "ffn"),
    "attention": ("attention",),
    "layers": ("attention", "ffn"),
    "separate": ("attention", "ffn"),
})  # fmt: skip
"""Which kinds of blocks a mode takes out. `layers` takes both of a layer at once, `separate` each by itself (fig. 5)."""
THETA, L1 = 0.95, 0.01
"""SNIP's threshold of identity and factor of the L1 term (sections 4.1 and A.2)."""
READINGS: Mapping[str, Mapping[str, str]] = MappingProxyType({
    "start": MappingProxyType({
        "nearest": "the matrices of spectral norm λ that change outputs least",
        "rescaled": "W·λ/σ(W) itself (the paper's formula)",
    }),
    "identity": MappingProxyType({
        "max": "no token's norm is above ε (its formula, over all tokens)",
        "mean": "the tokens' mean norm is not above ε (which it says is a mean)",
    }),
    "usage": MappingProxyType({
        "identity": "a block leaves that is the identity in at least θ of the mini-batches",
        "use": "one leaves that is used, that is not the identity, in less than θ of them (its words: usage below θ)",
    }),
    "counted": MappingProxyType({
        "texts": "after the training, on mini-batches of the calibration texts",
        "training": "on the mini-batches of the training's last pass (the paper)",
    }),
    "l1-on": MappingProxyType({
        "norms": "the blocks' mean norms (its words: mappings as a whole rather than their weights)",
        "weights": "the mean absolute weight of each block",
    }),
})  # fmt: skip
"""What SNIP's paper leaves open or is read otherwise here: reading → its words, the usual one first."""
PAPER_READINGS: Mapping[str, str] = MappingProxyType({
    "start": "rescaled", "identity": "mean", "usage": "use", "counted": "training", "l1-on": "norms",
})  # fmt: skip
"""The readings nearest to the paper's words and tables."""
PAPER_TRAINING: Mapping[str, float] = MappingProxyType({"lr": 1e-4, "layer_decay": 0.8, "epsilon": 1e-6})
"""What SNIP's table 3 has otherwise than `vp_core.training.schedule.Schedule`."""
ITERATIONS = 10
"""So often blocks may leave, unless asked otherwise (`vp_core.identity.snip`)."""
BATCH, LEARNING_RATE = 32, 5e-5
"""Texts in a mini-batch as in the paper's fine-tuning (table 3), and half of its learning rate (`vp_core.training.loop`)."""
METHODS: Mapping[str, str] = MappingProxyType({
    "variance": "rows that hardly vary, cut by cut (Variance Pruning)",
    "random": "as many rows in each matrix, drawn at random",
    "magnitude": "single weights, the smallest first, cut by cut (Compressing BERT)",
    "deletion": "the same, but what was set to zero may move again (information deletion)",
    "movement": "single weights by learned scores (movement pruning)",
    "block": "square blocks by learned scores (Block)",
    "hybrid": "blocks of attention and FFN neurons by learned scores (Hybrid)",
    "hybrid filled": "Hybrid, then what is empty in heads that stay is filled and trained on",
    "struct": "whole heads and FFN neurons by learned scores (Struct)",
    "none": "nothing is pruned; what was pruned stays so",
})  # fmt: skip
"""How a training prunes (`vp_core.running.settings`)."""
ALPHA, TEMPERATURE = 0.5, 2.0
"""Weight of the task's loss beside a teacher's, and the temperature (`vp_core.training.objectives`)."""
RUN, RESULT = "run.json", "model"
"""A run's record in its folder, and the folder of the model that came of it (`vp_core.training.run_folder`)."""
PRUNED, PRUNED_WEIGHTS = "pruned.json", "pruned.safetensors"
"""What a squeezed model's folder says of it, and its weights (`vp_core.squeezing.folder`)."""
MOST_STEPS = 64
"""In so many steps at most is a model pruned and measured again."""
