"""A study by a metric of one's own, of models with any head and none: statistics, recipes, curves, smaller models, files."""

import os
import subprocess
import sys

import pytest
import taggers
import tiny
import torch
import transformers
from commands import printed

from app.cli.main import main
from vp_core.asking.batches import make_batches
from vp_core.asking.evaluate import score
from vp_core.check import check_task
from vp_core.curves import CurveStore, sweep
from vp_core.ground.errors import VPError
from vp_core.loading.load import load_model
from vp_core.model.units import unit_groups
from vp_core.opening import own as opening
from vp_core.opening.own import by_name, own_from_start, own_study
from vp_core.opening.study import open_study
from vp_core.recipes import RECIPES, Recipe
from vp_core.squeezing.folder import load_pruned, save_pruned


def batches(seed=0, n=5, vision=False):
    draw = torch.Generator().manual_seed(seed)
    if vision:
        return [
            {"pixel_values": torch.randn(4, 3, 32, 32, generator=draw), "labels": torch.tensor([0, 1, 2, 0])} for _ in range(n)
        ]
    found = []
    for number in range(n):
        ids, mask = torch.randint(5, 50, (4, 6 + number % 3), generator=draw), torch.ones(4, 6 + number % 3, dtype=torch.long)
        mask[1, 4:] = 0
        found.append({"input_ids": ids, "attention_mask": mask, "labels": torch.randint(0, 2, (4,), generator=draw)})
    return found


def spread(model, batch):
    """How far what is put out varies: any model has it."""
    batch.pop("labels")
    return model(**batch)[0].flatten(1).std(dim=1)


MADE = {
    "bert": lambda: tiny.classifier("bert"),
    "bert, bare": lambda: tiny.build("bert", "Model", vocab_size=420, **tiny.sizes("bert", 32, 56, 2)),
    "tagger": lambda: taggers.tagger("roberta"),
    "writer": lambda: tiny.writer("llama")[0],
    "vit": lambda: tiny.transformer("vit", dtype=torch.float32),
    "gpt2, bare": lambda: tiny.build("gpt2", "Model", vocab_size=420, **tiny.sizes("gpt2", 32, 56, 2)),
}


@pytest.mark.parametrize("kind", MADE)
def test_models_of_any_kind(kind, tmp_path):
    """Opened, measured, pruned, squeezed, saved and loaded: the same values; the user's model is as before."""
    model, vision = MADE[kind](), kind == "vit"
    before, hooks = tiny.sha(model), tiny.hooks(model)
    study = own_study(model, spread, batches(vision=vision), batches(1, vision=vision), name="spread")
    dense, pruned = (score(study.pruned(Recipe(), s), study.question) for s in (0, 0.4))
    with torch.no_grad():
        expected = torch.cat([spread(model, one) for one in batches(vision=vision)]).mean().item()
    assert dense.value == pytest.approx(expected, rel=1e-5) and dense.n == 20 and pruned.value != dense.value
    real = sum(int(one["attention_mask"].sum()) for one in batches(1)) if not vision else 5 * 4 * 17
    assert study.statistics().tokens == real
    if "bare" in kind:
        with pytest.raises(VPError, match="has no head, so there is no effect on its answers"):
            study.score(RECIPES["best"], 0.3)
    else:
        assert study.score(RECIPES["best"], 0.3).final
    assert study.score(Recipe(units=("values",), scope="per layer", replacement="least squares"), 0.4).final
    small = study.squeezed(Recipe(), 0.4)
    assert score(small, study.question).value == pytest.approx(pruned.value, rel=1e-3)
    save_pruned(small, tmp_path / "small", study.loaded.reader, study.about(Recipe(), 0.4))
    again = own_study(load_pruned(tmp_path / "small"), spread, batches(vision=vision), name="spread")
    assert score(again.model, again.question).value == score(small, study.question).value
    assert (tiny.sha(model), tiny.hooks(model)) == (before, hooks) and all(p.requires_grad for p in model.parameters())


def test_statistics_are_those_of_the_same_texts_one_by_one():
    """Padding as it was given never counts, and labels are not read."""
    model = tiny.classifier("bert")
    study = own_study(model, spread, batches())
    (group, *_) = unit_groups(study.measured().layers, ("ffn neurons",))
    seen = []
    module = model.get_submodule("bert.encoder.layer.0.intermediate.dense")
    handle = module.register_forward_hook(lambda _m, _a, output: seen.append(output[0]))
    with torch.no_grad():
        for one in batches():
            for row in range(4):
                length = int(one["attention_mask"][row].sum())
                model(input_ids=one["input_ids"][row : row + 1, :length])
    handle.remove()
    torch.testing.assert_close(study.statistics().mean("0.ffn_in"), torch.cat(seen).double().mean(0), rtol=1e-4, atol=1e-5)
    assert group.layer == 0


def test_a_curve_is_kept_by_what_the_metric_computes(tmp_path):
    """Gone on with for the same function; not taken for another one of the same name, nor for other batches."""
    model, path = tiny.classifier("bert"), tmp_path / "curve.parquet"

    def points(metric, given):
        study = own_study(model, metric, given, name="m", smaller_is_better=True)
        return list(sweep(study, ["variance"], [0.0, 0.5], Recipe(), CurveStore(path)))

    first = points(spread, batches())
    assert first[0]["metric"] == "m (less is better)"
    assert [row["seconds"] for row in points(spread, batches())] == [row["seconds"] for row in first]
    other = points(lambda m, b: [0.5] * len(b["labels"]), batches())
    assert [row["value"] for row in other] == [0.5, 0.5]
    assert [row["value"] for row in points(spread, batches(3))] != [row["value"] for row in first]


def test_what_is_told():
    study = own_study(tiny.classifier("bert"), spread, batches())
    assert "Statistics are taken on the batches that are scored." in study.notes
    assert repr(study) == "Study('BertForSequenceClassification', 'own': spread on 20 examples, statistics on 20 examples)"
    assert check_task(study).why.startswith("own: spread on 5 batches, 20 examples.")
    assert own_study(tiny.classifier("bert"), lambda m, b: b["labels"], batches(), most_batches=2).question.name == "metric"


def test_the_model_is_a_copy_of_its_own():
    """What is done to the user's model afterwards changes no score."""
    model = tiny.classifier("bert").train()
    study = own_study(model, spread, batches())
    before = score(study.model, study.question).value
    with torch.no_grad():
        model.classifier.weight.zero_()
    assert score(study.model, study.question).value == before and model.training


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"model": torch.nn.Linear(2, 2)}, "A Linear is no model of transformers"),
        (
            {"batches": [{"x": torch.ones(4, 2), "labels": torch.ones(4)}]},
            "nothing that the model takes .x, labels.",
        ),
        ({"batches": [{"input_ids": torch.ones(1, 4, dtype=torch.long)}]}, "at least 2 calibration examples"),
        ({"metric": None}, "The metric is a NoneType"),
        ({"calibration": []}, "There are no calibration batches"),
        ({"name": "f1"}, "cannot be called 'f1'"),
        ({"model": "no/such/model"}, "no/such/model"),
        ({"model": transformers.XLNetModel(transformers.XLNetConfig(d_model=8, n_layer=1, n_head=2, vocab_size=9))}, "'xlnet'"),
    ],
)
def test_what_is_refused(given, what):
    with pytest.raises(VPError, match=what) as told:
        own_study(**{"model": tiny.classifier("bert"), "metric": spread, "batches": batches()} | given)
    assert "\n" not in str(told.value) and str(told.value).endswith(".")


def test_a_model_that_writes_needs_its_own_tokens():
    model = tiny.transformer("t5", dtype=torch.float32)
    with pytest.raises(VPError, match="no decoder_input_ids"):
        own_study(model, spread, batches())
    given = [one | {"decoder_input_ids": one["input_ids"][:, :3]} for one in batches()]
    study = own_study(model, spread, given)
    assert score(study.model, study.question).final
    (batch,) = make_batches(study.calibration, range(4))
    assert set(batch.inputs) == {"input_ids", "attention_mask", "decoder_input_ids"}


def test_by_name_as_what_it_was_saved(tmp_path):
    classifier = tiny.save(tmp_path / "c", *tiny.make("bert"))
    assert type(own_study(str(classifier), spread, batches()).model).__name__ == "BertForSequenceClassification"
    bare = tmp_path / "bare"
    MADE["bert, bare"]().save_pretrained(bare)
    study = own_study(str(bare), spread, batches())
    assert type(study.model).__name__ == "BertModel" and study.loaded.reader is None
    with pytest.raises(VPError, match="came without a tokeniser"):
        study.loaded.tokenizer  # noqa: B018
    tiny.tokenizer("bert").save_pretrained(bare)
    assert load_model(str(bare), "own").tokenizer.is_fast


def test_no_address_names_a_function(tmp_path):
    with pytest.raises(VPError, match="A metric of your own is no name"):
        open_study("demo", "own", "os:environ", metric="os:system")


MODULE = """
import torch

def spread(model, batch):
    return model(**batch)[0].flatten(1).std(dim=1)

spread.smaller_is_better = True

def batches():
    draw = torch.Generator().manual_seed(0)
    return [{"input_ids": torch.randint(5, 50, (4, 7), generator=draw)} for _ in range(4)]

class Inside:
    other = batches()
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with a module of its own; what it adds to the path and to the modules goes again."""
    (tmp_path / "my_metric.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / "broken_metric.py").write_text("1 / 0", encoding="utf-8")
    tiny.save(tmp_path / "model", *tiny.make("bert"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("my_metric", None)
    opening._start.cache_clear()


ASKED = ("--task", "own", "--metric", "my_metric:spread", "--data", "my_metric:batches")


def test_the_command_line(here, capsys):
    row = printed(capsys, "eval", "model", *ASKED)
    assert (row["metric"], row["n"], row["task"]) == ("spread (less is better)", 16, "own")
    rows = printed(capsys, "curve", "model", *ASKED, "--sparsities", "0,0.4", "--plot", "curve.html")
    assert len(rows) == 6 and rows[0]["value"] == row["value"]
    assert "spread (less is better)" in (here / "curve.html").read_text(encoding="utf-8")
    both = (*ASKED[:-1], "my_metric:batches,my_metric:Inside.other")
    assert printed(capsys, "stats", "model", *both)["tokens"] == 4 * 4 * 7
    assert printed(capsys, "prune", "model", *both, "--sparsity", "0.4", "--out", "small")["parameters"]
    small = printed(capsys, "eval", "small", *ASKED)
    assert small["value"] == pytest.approx(
        next(r["value"] for r in rows if r["sparsity"] == 0.4 and r["criterion"] == "variance"), rel=1e-3
    )
    assert printed(capsys, "check", "model", *ASKED)[-1]["why"].startswith("own: spread (less is better) on 4 batches")


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (("--metric", "my_metric:spread"), "Which metric and batches"),
        (("--data", "my_metric:batches"), "Which metric and batches"),
        (("--metric", "spread", "--data", "my_metric:batches"), "'spread' names no function"),
        (("--metric", "my_metric:none", "--data", "my_metric:batches"), "There is no 'none' in the module 'my_metric'"),
        (("--metric", "no_such_module:f", "--data", "my_metric:batches"), "cannot be imported (ModuleNotFoundError"),
        (("--metric", "broken_metric:f", "--data", "my_metric:batches"), "cannot be imported (ZeroDivisionError"),
        (("--metric", "my_metric:spread; x", "--data", "my_metric:batches"), "names no function"),
        ((*ASKED[2:], "--labels", "a,b"), "does not take --labels"),
        (("--metric", "my_metric:spread", "--data", "a:b,c:d,e:f"), "Which metric and batches"),
    ],
)
def test_what_the_command_line_refuses(options, what, here, capsys):
    assert main(["eval", "model", "--task", "own", *options]) == 2
    said = capsys.readouterr().err
    assert what in said and said.count("\n") == 1 and said.endswith(".\n")


def test_what_started_the_app(here, monkeypatch):
    assert own_from_start() is None
    monkeypatch.setenv("VP_OWN", "my_metric:spread, my_metric:batches")
    start = own_from_start()
    assert (start.name, start.smaller_is_better, start.calibration) == ("spread", True, None) and own_from_start() is start
    assert start.study("model").question.task.metric == "spread (less is better)"
    assert by_name("my_metric:Inside.other")[0]["input_ids"].shape == (4, 7)


def test_the_app_hears_it_by_an_environment_of_its_own(monkeypatch):
    seen = []
    monkeypatch.setattr(
        subprocess, "run", lambda *a, **k: seen.append(os.environ.get("VP_OWN")) or subprocess.CompletedProcess(a, 0)
    )
    monkeypatch.setenv("VP_OWN", "left:over")
    assert main(["app", "--own", "a:b,c:d"]) == 0 and main(["app"]) == 0
    assert seen == ["a:b,c:d", None]
