"""Settings and the address of the page."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from app.web.address import from_query, to_query
from app.web.asked_choices import OF_A_KIND
from app.web.downloads import how_to_load
from app.web.offered import over_recipe
from app.web.settings import FIELDS, Settings
from vp_core.asking.tasks import TASKS
from vp_core.ground.errors import VPError
from vp_core.opening.asked import Asked
from vp_core.opening.study import OPENERS
from vp_core.recipes import RECIPES


def test_the_default_needs_no_parameters():
    assert to_query(Settings()) == {}
    assert from_query({}) == (Settings(), [])


def test_what_is_written_to_the_address_is_read_back():
    settings = Settings(criterion="magnitude", scope="global", types=("query", "ffn_in"), sparsity=0.35, show="query")
    assert from_query(to_query(settings)) == (settings, [])


def test_every_kind_of_value_has_its_spelling():
    spelt = {
        "model": "models/my bert", "scope": "global", "types": "query,key", "sparsity": "0.35", "units": "heads",
        "calibration": "100", "batch": "16", "sparsities": "0,0.95", "recipes": "best,paper", "eps_ffn": "0.5123",
        "theta": "0.333", "gate": "on",
    }  # fmt: skip
    settings, problems = from_query(spelt)
    assert problems == [] and to_query(settings) == spelt
    assert (settings.types, settings.sparsity, settings.units) == (("query", "key"), 0.35, ("heads",))
    assert (settings.calibration, settings.batch, settings.sparsities) == (100, 16, (0.0, 0.95))
    assert (settings.recipes, settings.eps_ffn, settings.theta) == (("best", "paper"), 0.5123, 0.333)
    assert settings.gate is True and settings.eps_attention is None and Settings().gate is False


@pytest.mark.parametrize("name", FIELDS)
def test_a_setting_is_declared_whole(name):
    declared = FIELDS[name]
    assert declared.parse(name, declared.format(declared.default)) == declared.default
    assert [declared.format(declared.parse(name, choice)) for choice in declared.choices] == list(declared.choices)
    assert (bool(declared.label) and bool(declared.help)) or name in ("sparsity", "steps")  # no widget of these


def test_a_bookmark_of_an_earlier_version_opens_and_its_word_for_a_unit_is_told():
    settings, (problem,) = from_query({"sparsity": "0.3", "units": "ffn,values,pairs", "gate": "on"})
    assert settings == Settings(sparsity=0.3, units=("ffn neurons", "values", "pairs"), gate=True)
    assert "the unit 'ffn' is now called 'ffn neurons'" in problem and problem.count("\n") == 0
    settings, (problem,) = from_query({"show": "ffn"})
    assert settings == Settings(show="ffn neurons") and "'ffn neurons'" in problem
    assert from_query({"units": "ffn neurons,values,pairs", "mode": "ffn", "show": "ffn_in"})[1] == []


def test_what_is_measured_is_sorted_once_each_and_with_the_sliders():
    settings, problems = from_query({"sparsities": "0.7,0.30,0.3,0", "sparsity": "0.5", "batch": "016"})
    assert problems == [] and (settings.sparsities, settings.batch) == ((0.0, 0.3, 0.7), 16)
    assert to_query(settings)["sparsities"] == "0,0.3,0.7" and to_query(settings)["batch"] == "16"
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
        ("units", "ffn neurons,heads,values", "The units 'values' and 'heads' have rows in common"),
        ("basis", "rotated", "Unknown basis 'rotated'"),
        ("basis", "principal", "Single rows are pruned as they are"),
        ("budget", "watts", "Unknown budget 'watts'"),
        ("replacement", "median", "Unknown replacement 'median': choose one of"),
        ("calibration", "8", "'8' is no whole number from 16 to 4,096"),
        ("calibration", "many", "'many' is no whole number"),
        ("steps", "0", "'0' is no whole number from 1"),
        ("recipes", "paper,worst", "Unknown recipe 'worst'"),
        ("colour", "red", "'colour' is no setting"),
    ],
)
def test_a_bad_value_is_named_and_the_default_taken(name, value, says):
    settings, problems = from_query({name: value, "scope": "global"})
    assert settings == Settings(scope="global")
    (problem,) = problems
    assert says in problem and problem.count("\n") == 0


@pytest.mark.parametrize("name", RECIPES)
def test_a_named_recipe_sets_all_of_its_fields_and_is_recognised(name):
    before = Settings(units=("heads",), criterion="wanda", types=("query",), budget="flops", sparsity=0.4)
    chosen = before.with_recipe(name)
    assert chosen.recipe == RECIPES[name] and chosen.recipe_name == name
    assert from_query(to_query(chosen)) == (chosen, [])
    assert chosen.sparsity == (0.5 if name == "2:4" else 0.4)  # which has no other
    assert chosen.with_criterion("random").recipe_name is None


def test_the_budget_follows_the_units():
    heads = Settings().with_units(("heads",))
    assert (Settings().recipe.budget, heads.recipe.budget) == ("units", "parameters")
    assert "budget" not in to_query(heads)  # it goes without saying
    turned = replace(heads, basis="principal")
    assert turned.with_units(("rows",)).recipe.basis == "neurons"


def test_the_paper_is_drawn_by_criteria_and_what_solves_by_replacement():
    assert Settings().curve_lines == "criteria" and Settings().with_recipe("best").curve_lines == "replacement"
    assert Settings(lines="replacement").curve_lines == "replacement"


def test_the_longest_text_may_be_left_open():
    settings, problems = from_query({"max_length": "256", "separator": ";", "text": "words"})
    assert problems == [] and (settings.max_length, settings.separator) == (256, ";")
    assert to_query(settings) == {"max_length": "256", "separator": ";", "text": "words"}
    for wrong in ("3", "-8", "many", "2.5"):
        settings, (problem,) = from_query({"max_length": wrong})
        assert settings.max_length is None and f"{wrong!r} is no whole number above 3" in problem


def test_a_metric_stands_in_the_address_by_name_and_nothing_else_does():
    settings, problems = from_query({"task": "mrpc", "metric": "f1"})
    assert problems == [] and settings.metric == "f1" and to_query(settings) == {"task": "mrpc", "metric": "f1"}
    for wrong in ("os:system", "own", "micro_f1", "vp_core.asking.metrics:compute"):
        settings, (problem,) = from_query({"metric": wrong})
        assert settings.metric == "" and f"Unknown metric {wrong!r}" in problem


@pytest.mark.parametrize("asked", OPENERS)
def test_the_sidebar_has_boxes_for_what_a_kind_of_task_takes(asked):
    """What a box stands for is not refused when the study is opened."""
    task = next(task for task in TASKS.values() if task.kind == asked)
    values = {"max_length": 16, "stride": 8, "most_tokens": 100, "labels": ("a",), "text": ("a",)}
    given = {name: values.get(name, "a") for name in OF_A_KIND[asked]}
    with pytest.raises(VPError) as said:
        OPENERS[asked](Asked("nowhere/at-all", task.name, task, **given))
    assert "does not take" not in str(said.value)


def test_the_command_that_opens_a_download_reads_the_file_as_the_page_does():
    study = SimpleNamespace(loaded=SimpleNamespace(name="models/own"))
    settings = Settings(task="a b.csv", text="words", separator=";", max_length=256)
    command = how_to_load(study, settings)[1]
    assert command == "vp eval own-squeezed --task 'a b.csv' --text words --label label --separator ';' --max-length 256"
    assert how_to_load(study, Settings())[1] == "vp eval own-squeezed --task demo"


def test_masks_in_turned_coordinates_are_not_laid_over_others():
    paper, best = RECIPES["paper"], RECIPES["best"]
    assert over_recipe(best, "by magnitude") == replace(best, criterion="magnitude")  # the same model turns alike
    assert over_recipe(paper, "the same recipe", another_model=True) == paper
    for recipe, over, another in ((paper, "best", False), (best, "paper", False), (best, "the same recipe", True)):
        with pytest.raises(VPError, match="choose the basis neurons"):
            over_recipe(recipe, over, another)
