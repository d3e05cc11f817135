"""Settings and the address of the page."""

import pytest

from app.settings import Settings, from_query


def test_the_default_needs_no_parameters():
    assert Settings().to_query() == {}
    assert from_query({}) == (Settings(), [])


def test_what_is_written_to_the_address_is_read_back():
    settings = Settings(criterion="magnitude", scope="global", types="query,ffn_in", sparsity="0.35", show="query")
    assert from_query(settings.to_query()) == (settings, [])


def test_what_is_measured_is_sorted_once_each_and_with_the_sliders():
    settings, problems = from_query({"sparsities": "0.7,0.30,0.3,0", "sparsity": "0.5", "batch": "016"})
    assert problems == [] and (settings.sparsities, settings.batch) == ("0,0.3,0.7", "16")
    assert settings.measured_sparsities == (0.0, 0.3, 0.5, 0.7)
    assert from_query({"sparsities": ""})[0].measured_sparsities == (0.2,)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("sparsity", "1.2", "'1.2' is not a number between 0 and 1"),
        ("sparsity", "abc", "'abc' is not a number between 0 and 1"),
        ("sparsity", "nan", "'nan' is not a number between 0 and 1"),
        ("criterion", "varience", "Unknown criterion 'varience': choose one of variance, random, magnitude"),
        ("types", "query,foo", "Unknown projection type 'foo'"),
        ("types", "", "No projection type is chosen"),
        ("colour", "red", "'colour' is no setting"),
    ],
)
def test_a_bad_value_is_named_and_the_default_taken(name, value, says):
    settings, problems = from_query({name: value, "scope": "global"})
    assert settings == Settings(scope="global")
    (problem,) = problems
    assert says in problem and problem.count("\n") == 0
