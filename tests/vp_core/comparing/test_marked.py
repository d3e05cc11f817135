"""An answer to a question of one's own: the same as the question of a data set has, and where it stands."""

import marking
import numpy as np
import pytest
import tiny

from vp_core.asking.kinds.spans import NONE, SCORE, Spans
from vp_core.asking.reading.squad import Asking
from vp_core.asking.tasks import TASKS
from vp_core.asking.words.paragraphs import windows_of
from vp_core.comparing.spans import mark
from vp_core.ground.errors import VPError

QUESTION, PARAGRAPH = "was the film good", "  the film   was quite good\n but the plot felt slow  "


@pytest.mark.parametrize("family", marking.FAMILIES)
@pytest.mark.parametrize("times", [1, 6], ids=["one window", "several"])
def test_as_a_question_of_a_data_set(family, times):
    model, tokenizer, paragraph = marking.marker(family), tiny.tokenizer(family), PARAGRAPH * times
    found = mark(model, tokenizer, QUESTION, paragraph, marking.LENGTH)
    data = windows_of(tokenizer, [Asking("1", QUESTION, paragraph, ("film",), (6,))], marking.LENGTH)
    asked = Spans.make(data, TASKS["squad"], False)
    rows = np.concatenate([asked.outputs(model, data.together([i])).numpy() for i in range(len(data))])
    (best,) = asked.combined(rows, np.arange(len(data)))[1]
    assert found.text == asked.said(0, best) == paragraph[found.start : found.end] == found.text.strip() != ""
    assert (found.score, found.none) == pytest.approx((best[SCORE], best[NONE]), abs=1e-3)
    assert found.windows == len(data) and found.cut == (times > 1) and found.unanswered == (found.none > found.score)


def test_what_is_refused():
    model, tokenizer = marking.marker(), tiny.tokenizer("bert")
    for question, paragraph, what in (("  ", PARAGRAPH, "question"), (QUESTION, "\n", "paragraph")):
        with pytest.raises(VPError, match=f"The {what} is empty"):
            mark(model, tokenizer, question, paragraph, 38)
    with pytest.raises(VPError, match="leaves no room for its paragraph"):
        mark(model, tokenizer, QUESTION * 9, PARAGRAPH, 38)
    with pytest.raises(VPError, match="marks no answers in a text"):
        mark(*tiny.make("bert"), QUESTION, PARAGRAPH, 38)
