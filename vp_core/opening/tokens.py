"""A study of a long text that is asked for its tokens, window by window."""

import numpy as np

from vp_core.asking.batches import Encoded
from vp_core.asking.kinds.heads import head_of
from vp_core.asking.tasks import Task
from vp_core.asking.words.masked_tokens import MaskedTokens
from vp_core.asking.words.next_tokens import NextTokens
from vp_core.asking.words.texts import Texts, open_texts
from vp_core.asking.words.windows import Windows, around, cut, sample
from vp_core.ground.errors import VPError
from vp_core.ground.names import CALIBRATION_WINDOWS
from vp_core.ground.store import digest
from vp_core.loading.load import LoadedModel
from vp_core.loading.readers.texts import check_numbers, notes_of_windows
from vp_core.opening.asked import Asked, of_sample
from vp_core.study import Study


def open_tokens(asked: Asked) -> Study:
    """Of a model that predicts tokens of a text; raises VPError as `vp_core.opening.study.open_study` says."""
    asked.check("data", "max_length", "stride", "most_tokens")
    loaded, task = asked.load(), asked.task
    assert task is not None
    length, texts = min(asked.max_length or task.max_length, loaded.max_length), open_texts(task, asked.data)
    masked = head_of(loaded.model) == "masked tokens"
    if masked and asked.stride is not None:
        raise VPError("Masked words are predicted from both sides, so windows do not overlap: leave out --stride.")
    windows = cut(loaded.tokenizer, texts.scored, length, asked.stride, ends=masked)
    before, after = around(loaded.tokenizer, masked)
    notes = (*texts.notes, *notes_of_windows(loaded.tokenizer, windows.data, len(before), len(after)))
    if asked.most_tokens is not None and (few := _few(windows, asked.most_tokens)) is not windows:
        notes = (*notes, of_sample(few, windows, "windows"))
        windows = few
    measured = sample(loaded.tokenizer, texts.measured, length, asked.calibration or CALIBRATION_WINDOWS, ends=masked)
    return make_token_study(loaded, task, windows, measured, texts, notes)


def _few(windows: Windows, most_tokens: int) -> Windows:
    """A random sample of windows with about so many tokens; all of them if they have no more."""
    if most_tokens < 2:
        raise VPError(f"Perplexity needs tokens, and {most_tokens} are asked for: leave out --most-tokens, or ask for 10000.")
    lengths = [len(ids) - int(start) for ids, start in zip(windows.data.ids, windows.starts, strict=True)]
    n = -(-most_tokens * len(windows) // sum(lengths))
    return windows if n >= len(windows) else windows.at(np.sort(np.random.default_rng(0).permutation(len(windows))[:n]))


def make_token_study(
    loaded: LoadedModel, task: Task, windows: Windows, calibration: Windows, texts: Texts, notes: tuple[str, ...] = ()
) -> Study:
    """A Study of a model that predicts tokens, from windows that are there; `notes` are what its user should know of them."""
    for one in (windows.data, calibration.data):
        check_numbers(loaded.model, loaded.tokenizer, one)
    if head_of(loaded.model) == "masked tokens":
        question: NextTokens | MaskedTokens = MaskedTokens.of(loaded.tokenizer, windows, task)
    else:
        question = NextTokens.of(windows, task)
    assert isinstance(question.data, Encoded)
    asked = [ids.tolist() for ids in question.wanted], [places.tolist() for places in question.read]
    return Study(
        loaded=loaded,
        question=question,
        calibration=calibration.data,
        data_id=digest(question.data.ids, *asked, question.task.metrics),
        calibration_id=digest(*calibration.data.facts()),
        source=texts.source,
        notes=(*loaded.notes, *notes),
    )
