"""See what the neurons of a Transformer do, and take out what hardly varies, without training.

    import vp_core as vp

    study = vp.open_study("demo")            # a model, the sentences it is scored on, and some to measure it on
    study.score(vp.RECIPES["best"], 0.5)     # its accuracy with an interval when half of its parameters are gone

A `Study` is all that the app, the notebooks and the command line ask. Below it lie the steps it takes, each a function of
values that changes nothing it is given, and each a folder here, in this order; a file imports from earlier ones only:

    model      what a model is made of, by family     find_projections, find_layers, find_blocks, share
    asking     what it is asked, and how well it does open_examples, encode, make_batches, evaluate, score
    measuring  what its neurons do on texts           collect, collect_norms, spectral_norms
    ranking    which rows go, exactly                 score_neurons, rank, Ranking.plan, Plan
    replacing  what takes their place                 constants, prune
    weights    single weights instead of rows         prune_weights, Masks
    comparing  two models beside each other           movements, similarity
    squeezing  the rows leave the matrices            squeeze, cost, save_pruned, load_pruned, time_forward

`ground` carries them all (names, files, cores), `demo` is the model that comes along, `loading` reads those that people
bring, `recipes.py` says all choices in one value, `carry_out.py` is the whole method by such a value, `study.py` puts it
together, `curves.py` and `speed.py` ask it many times. `training` goes on, `identity`, `gradual` and `movement` prune while it
does, `running` has whole runs of it, and `check.py` says beforehand what can be done.

What is public is named in `__all__`; docs/library.md has an example of each. A name is loaded when it is first used, so
`import vp_core` costs nothing.
"""

from importlib import import_module
from typing import Any

_PUBLIC = {
    "ground.errors": ("VPError",),
    "ground.names": (
        "TYPES",
        "UNITS",
        "CRITERIA",
        "SCOPES",
        "BUDGETS",
        "REPLACEMENTS",
        "BASES",
        "WEIGHT_UNITS",
        "WEIGHT_CRITERIA",
        "WEIGHT_SCOPES",
        "WEIGHT_REPLACEMENTS",
        "METHODS",
    ),
    "recipes": ("Recipe", "RECIPES", "find_recipe"),
    "model.projections": ("Projection", "Layer", "find_projections", "find_layers"),
    "model.blocks": ("Block", "find_blocks"),
    "model.sharing": ("share",),
    "asking.examples": ("Examples", "open_examples"),
    "asking.batches": ("encode", "make_batches"),
    "asking.evaluate": ("evaluate", "score"),
    "asking.kinds.classification": ("Classification",),
    "asking.words.masked_tokens": ("MaskedTokens",),
    "asking.words.next_tokens": ("NextTokens",),
    "asking.kinds.question": ("Question", "Score"),
    "asking.metrics": ("paired_interval",),
    "measuring.statistics": ("Statistics", "collect"),
    "measuring.function_norms": ("FunctionNorms", "collect_norms"),
    "measuring.spectral_norms": ("spectral_norms",),
    "ranking.criteria": ("score_neurons",),
    "ranking.plan": ("Plan", "Ranking", "rank"),
    "replacing.ladder": ("constants",),
    "replacing.prune": ("prune",),
    "weights.matrices": ("Matrix", "find_matrices"),
    "weights.masks": ("Masks", "overlap"),
    "weights.order": ("WeightRanking",),
    "weights.stage": ("prune_weights",),
    "comparing.movement": ("movements",),
    "comparing.features": ("similarity",),
    "comparing.losses": ("loss_and_score",),
    "comparing.masked_lm": ("masked_lm_loss",),
    "squeezing.squeeze": ("squeeze", "squeeze_masked"),
    "squeezing.cost": ("Cost", "cost", "parameters", "flops_per_token"),
    "squeezing.blocks_off": ("without",),
    "squeezing.folder": ("save_pruned", "load_pruned"),
    "squeezing.dense_form": ("export_transformers",),
    "squeezing.timing": ("time_forward",),
    "loading.load": ("LoadedModel", "load_model"),
    "loading.weights": ("load_weights",),
    "study": ("Study",),
    "opening.study": ("open_study",),
    "opening.classes": ("make_study",),
    "opening.own": ("own_study",),
    "curves": ("Curve", "CurveStore", "sweep", "curve", "score_of"),
    "training.schedule": ("Lessons", "TextLessons", "Schedule"),
    "training.teacher": ("Teacher",),
    "training.objectives": ("Distillation", "MaskedWords"),
    "training.callbacks": ("Callback",),
    "training.loop": ("train",),
    "running.lessons": ("lessons_of",),
    "running.finetune": ("fine_tune",),
    "gradual.cuts": ("Cuts",),
    "gradual.rows": ("GradualRows",),
    "gradual.weights": ("GradualWeights",),
    "movement.prune": ("LearnedMasks",),
    "running.settings": ("TrainSettings",),
    "running.run": ("TrainingMaterial", "run_training"),
    "running.pretrain": ("windows", "open_masked_lm", "classifier_of"),
    "running.trainer": ("VariancePruning", "MagnitudePruning", "MovementPruning"),
    "identity.snip": ("Material", "SnipSettings", "run_snip"),
    "check": ("Capability", "capabilities"),
}
"""Module → its public names, in the order of the rooms: the one place that says what is public."""
_MODULE_OF = {name: module for module, names in _PUBLIC.items() for name in names}
__all__ = list(_MODULE_OF)


def __getattr__(name: str) -> Any:
    """A public name, from its module, which is imported now."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
