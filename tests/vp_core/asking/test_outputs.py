"""What a model's outputs are, and which of their names a word means."""

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from vp_core.asking.outputs import Outputs, class_order, format_labels, match, outputs_of, parse_labels
from vp_core.ground.errors import VPError

WORDS = st.lists(
    st.text("aAbBß+-1.0 _", min_size=1, max_size=4).map(str.strip).filter(bool), min_size=1, max_size=5, unique=True
)


@given(WORDS, WORDS, st.booleans())
def test_no_two_words_mean_one_name_and_exact_names_come_first(words, names, prefixes):
    found = match(words, names, prefixes)
    assert len(set(found.values())) == len(found)
    for word in words:
        if word in names:
            assert names[found[word]] == word


@given(st.lists(st.text("ab,'\" é-", min_size=1).map(str.strip).filter(bool), min_size=1))
def test_names_come_back_from_an_option(names):
    assert parse_labels(format_labels(names)) == tuple(names)


def test_labels_that_are_no_list():
    assert parse_labels("") == parse_labels(" , ") == ()
    with pytest.raises(VPError, match="in one line"):
        parse_labels("a\nb")


def test_what_is_not_the_same():
    assert match(["-1"], ["1"]) == match(["1-2"], ["12"]) == match(["कि"], ["की"]) == match(["+"], ["-"]) == {}
    assert match(["C"], ["C++"]) == match(["c"], ["C#"]) == match(["A", "B"], ["A-", "B+"], prefixes=True) == {}
    assert match(["a"], ["a!", "a?"]) == match(["Good", "GOOD"], ["good"]) == {}
    assert match(["surfing", "joy"], ["surprise", "joy", "fear"], prefixes=True) == {"joy": 1}
    assert match(["1.0", "-2"], ["-2", "1"]) == {"1.0": 1, "-2": 0}
    assert match(["ＬＯＷ", "not-high"], ["low", "not_high"]) == {"ＬＯＷ": 0, "not-high": 1}


def test_numbers_come_in_number_order_before_names():
    words = ["b", "10", "-1", "LABEL_2", "0", "a"]
    assert sorted(words, key=class_order) == ["-1", "0", "LABEL_2", "10", "a", "b"]


@pytest.mark.parametrize(
    ("names", "kind", "numbered", "problem"),
    [
        (("LABEL_0", "LABEL_1"), "classes", True, None),
        (("1", "0"), "classes", False, "single_label_classification"),
        (("LABEL_0",), "value", True, None),
        (("LABEL_0",), "value", True, "regression"),
        (("toxic",), "labels", False, "multi_label_classification"),
        (("a", "b"), "labels", False, "multi_label_classification"),
    ],
)
def test_the_configuration_says_what_the_outputs_are(names, kind, numbered, problem):
    model = tiny.name_labels(tiny.classifier("bert", len(names)), *names)
    model.config.problem_type = problem
    assert outputs_of(model) == Outputs(kind, names) and Outputs(kind, names).numbered == numbered


def test_outputs_that_cannot_be_asked():
    model = tiny.classifier("bert", 2)
    model.config.problem_type = "regression"
    with pytest.raises(VPError, match="2 values at once"):
        outputs_of(model)
    model.config.id2label = {1: "a", 2: "b"}
    with pytest.raises(VPError, match="number them from 0"):
        outputs_of(model)
