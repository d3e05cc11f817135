"""`best` against torch-pruning's Taylor importance, which sees labels, sentence by sentence: accuracies and their difference.

On sets of labelled texts that neither has seen. Of the ways to cut by Taylor importance the one that is best on a set is taken
there, which favours it.
"""

from collections.abc import Mapping
from functools import partial

import numpy as np
from transformers import PreTrainedModel

from benchmarks.peers import FORMS, find_setting, magnitude, taylor, torch_pruning
from vp_core.asking.evaluate import score
from vp_core.asking.examples import Examples
from vp_core.opening.classes import make_study
from vp_core.recipes import RECIPES
from vp_core.study import Study

RESAMPLES = 2000
Found = Mapping[str, Mapping[str, float | str]]


def compare(study: Study, calibration: Examples, sets: Mapping[str, Examples], recipe: str, share: float) -> Found:
    """By name of a set: accuracy of the recipe (`ours`), of the dense model and of the best `peer`, and the difference to it.

    `calibration` are the study's, with their labels. The 95 % interval of the difference is a percentile bootstrap over texts.
    """
    models = {"dense": study.model, "ours": study.squeezed(RECIPES[recipe], share)}
    for form, (dims, globally) in FORMS.items():
        cut = partial(torch_pruning, study, dims, globally)
        setting = find_setting(partial(cut, magnitude), share)
        models[form], _ = cut(partial(taylor, study, calibration.labels), setting)
    found = {}
    for name, texts in sets.items():
        asked = make_study(study.loaded, texts, calibration)
        right = {side: _right(asked, model) for side, model in models.items()}
        peer = max(FORMS, key=lambda form: right[form].mean())
        won = right["ours"] - right[peer]
        low, high = np.quantile(_means(won), (0.025, 0.975))
        values = {"ours": right["ours"].mean(), "dense": right["dense"].mean(), "peer": right[peer].mean()}
        values |= {"difference": won.mean(), "low": low, "high": high}
        found[name] = {"form": peer, "texts": len(texts)} | {key: round(float(value), 5) for key, value in values.items()}
    return found


def _right(study: Study, model: PreTrainedModel) -> np.ndarray:
    """(texts,) 1 where the answer is right, else 0."""
    right = score(model, study.question).right
    assert right is not None
    return right.astype(float)


def _means(values: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.array([values[rng.integers(0, len(values), len(values))].mean() for _ in range(RESAMPLES)])
