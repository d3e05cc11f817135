"""A text of the visitor's own, asked of the dense and the pruned model as they can be asked."""

from collections.abc import Mapping

from app.web.panels.sentence import answers, reading
from app.web.settings import Settings
from vp_core.study import Study

BOTH: Mapping[str, str] = {"dense": "dense", "pruned": "pruned"}


def sentence(
    study: Study, settings: Settings, answer: answers.Start, read: reading.Start, called: Mapping[str, str] = BOTH
) -> None:
    """A box for a text, and what the models make of it; `called`: which of them are shown, and as what.

    `answer` and `read` start the job of asking classifiers, or language models.
    """
    if study.question.task.tokens:
        reading.show_reading(study, settings, called, read)
    else:
        answers.show_answers(study, settings, called, answer)
