"""A text of the visitor's own, asked of the dense and the pruned model as they can be asked."""

from collections.abc import Mapping

from app.web.panels.sentence.answers import show_answers
from app.web.panels.sentence.reading import show_reading
from app.web.settings import Settings
from vp_core.study import Study

_BOTH: Mapping[str, str] = {"dense": "dense", "pruned": "pruned"}


def sentence(study: Study, settings: Settings, called: Mapping[str, str] = _BOTH) -> None:
    """A box for a text, and what the models make of it; `called`: which of them are shown, and as what."""
    show = show_reading if study.question.task.tokens else show_answers
    show(study, settings, called)
