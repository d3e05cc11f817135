"""A study of a model by a metric of one's own: a function, and batches that it is asked about.

    from vp_core.opening.own import own_study

    def hits(model, batch):
        labels = batch.pop("labels")
        return model(**batch).logits.argmax(dim=1) == labels

    study = own_study("my-model", hits, batches)

On the command line both are named as `module:name`; nothing is imported but what the user's own command line names.
"""

import copy
import importlib
import inspect
import os
import sys
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from vp_core.asking.given.dicts import Given, read_batches
from vp_core.asking.given.returned import known_by
from vp_core.asking.kinds.heads import head_of
from vp_core.asking.kinds.own import Own
from vp_core.ground.errors import VPError, one_line
from vp_core.ground.names import AUTO, DTYPES
from vp_core.ground.store import digest
from vp_core.loading.checkpoint import check_finite
from vp_core.loading.load import LoadedModel, fingerprint, load_model, to_device, what_is_asked
from vp_core.model.precision import find_device
from vp_core.model.projections import find_projections
from vp_core.opening.asked import Asked
from vp_core.study import Study

START = "VP_OWN"
"""The environment variable by which `vp app --own` tells the process that it starts; nothing else sets it."""
_LEARNED = ("labels", "start_positions", "end_positions", "next_sentence_label")
"""What a model is given for its loss alone: statistics need none."""


def own_study(
    model: PreTrainedModel | str,
    metric: Any,
    batches: Any,
    calibration: Any = None,
    *,
    name: str = "",
    smaller_is_better: bool = False,
    asked: str = "",
    most_batches: int | None = None,
    device: str = AUTO,
    dtype: str = DTYPES[0],
) -> Study:
    """A Study whose score is what `metric(model, batch)` returns over `batches`.

    `model` is a transformers model of a supported family, with any head or none, which is copied, or a name as `load_model`
    takes it, loaded for what is `asked` (default: what it was saved as). `metric` returns a number for each example of a batch
    (their mean is the score), or (value, n), combined over batches as the mean weighted by n. `batches` are an iterable of
    dicts of tensors (examples, …), or a function that returns one; they are gone through once and kept as they are,
    `most_batches` of them. Statistics are taken on `calibration`, given alike (default: the batches themselves). The score is
    called `name` (default: the function's name); with `smaller_is_better` less is better.

    Raises VPError, one sentence each, for a model that is none, and as `read_batches` and `Own` do.
    """
    loaded = _of_object(model, device) if isinstance(model, PreTrainedModel) else _by_name(model, asked, device, dtype)
    scored = read_batches(batches, most_batches)
    question = Own.make(scored, metric, name or _name_of(metric), smaller_is_better)
    measured = scored if calibration is None else read_batches(calibration, most_batches, "calibration batches")
    notes = scored.notes if calibration is None else (*scored.notes, *measured.notes)
    told = ("Statistics are taken on the batches that are scored.",) if calibration is None else ()
    measured = _for_model(loaded.model, measured)
    if len(measured) < 2:
        raise VPError("Statistics need at least 2 calibration examples: give more of them.")
    return Study(
        loaded=loaded,
        question=question,
        calibration=measured,
        data_id=digest(*scored.facts(), question.task.metrics, known_by(metric)),
        calibration_id=digest(*measured.facts()),
        source=f"{question.name} on {len(scored.batches):,} batches",
        notes=(*loaded.notes, *notes, *told),
    )


def open_own(asked: Asked) -> Study:
    """Never: an address or a file of settings names no function. VPError that says who does."""
    raise VPError(
        "A metric of your own is no name: give it where you have the function, own_study(model, metric, batches) in Python, or "
        "on the command line (--task own --metric module:function --data module:batches; of the app --own)."
    )


@dataclass(frozen=True)
class Start:
    """What the command line named: a metric and batches, perhaps those of calibration, and the name and direction of the
    metric, which its attribute `smaller_is_better` says."""

    metric: Any
    batches: Any
    calibration: Any = None
    name: str = ""

    @property
    def smaller_is_better(self) -> bool:
        """Whether less is better, as the function itself says."""
        return bool(getattr(self.metric, "smaller_is_better", False))

    def study(self, model: PreTrainedModel | str, *, device: str = AUTO, dtype: str = DTYPES[0]) -> Study:
        """The study of a model by it; raises VPError as `own_study` does."""
        return own_study(
            model, self.metric, self.batches, self.calibration, name=self.name, smaller_is_better=self.smaller_is_better,
            device=device, dtype=dtype,
        )  # fmt: skip


def named_start(metric: str, data: str) -> Start:
    """What `--metric module:function` and `--data module:batches[,module:calibration]` name; imports these modules, which are
    looked for in the working directory first, as `python -m` does. VPError for what is not there.

    Only for what the user's own command line says.
    """
    named = [part.strip() for part in str(data or "").split(",")]
    if not metric or not named[0] or len(named) > 2:
        raise VPError(
            "Which metric and batches? Name both: --metric module:function --data module:batches[,module:calibration]."
        )
    function, *given = (by_name(one) for one in (metric, *named))
    return Start(function, given[0], given[1] if len(given) > 1 else None, getattr(function, "__name__", ""))


def own_from_start() -> Start | None:
    """The metric and batches that the command named that started this process (`vp app --own`); None if it named none.

    Imported once. VPError as `named_start` does.
    """
    said = os.environ.get(START, "")
    return _start(said) if said else None


@cache
def _start(said: str) -> Start:
    metric, _, data = said.partition(",")
    return named_start(metric.strip(), data)


def by_name(named: str) -> Any:
    """What `module:name` names, `name` perhaps with dots; VPError for what is no such name, or cannot be imported."""
    module, colon, path = named.partition(":")
    parts = [*module.split("."), *path.split(".")]
    if not colon or not all(part.isidentifier() for part in parts):
        raise VPError(f"{named!r} names no function: write module:function, such as my_metric:hits for hits in my_metric.py.")
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:  # whatever stands in that file
        raise VPError(
            f"The module {module!r} cannot be imported ({type(error).__name__}: {one_line(error)}): mend it."
        ) from error
    for part in path.split("."):
        if not hasattr(found, part):
            raise VPError(f"There is no {path!r} in the module {module!r}: check the name.")
        found = getattr(found, part)
    return found


def _name_of(metric: Any) -> str:
    name = getattr(metric, "__name__", "") or type(metric).__name__
    return "metric" if name == "<lambda>" else name


def _of_object(model: PreTrainedModel, device: str) -> LoadedModel:
    """A model that somebody has: a copy of it, so that it stays what it was, and stays what was measured."""
    own = copy.deepcopy(model).eval().requires_grad_(False)
    name = getattr(model, "name_or_path", "") or type(model).__name__
    check_finite(own, name)
    projections = () if hasattr(own, "squeezed") else find_projections(own)
    return LoadedModel(to_device(own, find_device(device)), None, name, fingerprint(own), projections)


def _by_name(name: Any, asked: str, device: str, dtype: str) -> LoadedModel:
    if not isinstance(name, str):
        raise VPError(f"A {type(name).__name__} is no model of transformers: give one, or the name of one.")
    return load_model(name, asked or what_is_asked(name) or "own", device=device, dtype=dtype)


def _for_model(model: PreTrainedModel, given: Given) -> Given:
    """The same batches in the names that the model's forward pass takes; VPError where there are none, or a decoder would have
    to make up what it reads."""
    names = [name for name in inspect.signature(model.forward).parameters if name not in _LEARNED]
    for number, batch in enumerate(given.batches, start=1):
        taken = [name for name in batch if name in names]
        if not taken:
            raise VPError(
                f"Batch {number:,} has nothing that the model takes ({', '.join(list(batch)[:5])}): statistics need its "
                "inputs, such as input_ids; give calibration batches that have them."
            )
        if head_of(model) == "target tokens" and "decoder_input_ids" not in taken:
            raise VPError(
                f"Batch {number:,} has no decoder_input_ids, which statistics of a model that writes need, with their "
                "decoder_attention_mask: give calibration batches that have them."
            )
    return replace(given, takes=tuple(names))
