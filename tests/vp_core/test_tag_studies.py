"""A tagger from its folder to a smaller one, in every family; what is refused, told, trained, saved and loaded."""

import json

import numpy as np
import pytest
import taggers
import tiny
import torch
from commands import SHORT, printed
from scipy.special import log_softmax

from app.cli.main import main
from vp_core.asking.batches import make_batches
from vp_core.asking.evaluate import score
from vp_core.check import capabilities, check_task
from vp_core.comparing.tags import Piece, tag
from vp_core.curves import CurveStore, score_of, sweep
from vp_core.ground.errors import VPError
from vp_core.loading.load import load_any, load_model
from vp_core.model.families import families_for
from vp_core.opening.study import open_study
from vp_core.recipes import RECIPES, Recipe
from vp_core.running.finetune import fine_tune
from vp_core.running.lessons import lessons_of
from vp_core.squeezing.folder import save_pruned
from vp_core.training.schedule import Schedule, TagLessons
from vp_core.training.teacher import Teacher
from vp_core.training.words import WordTags

QUICK = Schedule(steps=3, batch=8, lr=1e-3, precision="float32")


@pytest.mark.parametrize("family", families_for("tags"))
def test_every_family(family, tmp_path):
    """Opened, pruned, squeezed, saved and loaded: the same answers."""
    folder, data = taggers.folders(tmp_path, family)
    study = open_study(str(folder), "tags", data)
    before, hooks = tiny.sha(study.model), tiny.hooks(study.model)
    refused = {one.name for one in capabilities(study.model) if not one.can}
    assert refused - {"transformers"} == ({"best"} if family == "albert" else set())
    dense, pruned = (score(study.pruned(Recipe(), s), study.question) for s in (0, 0.3))
    assert dense.final and dense.metric == "entity_f1" and dense.others["word_accuracy"] > 0
    small = study.squeezed(Recipe(), 0.3)
    near = score(small, study.question)
    assert near.value == pytest.approx(pruned.value, abs=0.02) and near.n == pruned.n == 30
    save_pruned(small, tmp_path / "small", study.loaded.tokenizer, study.about(Recipe(), 0.3))
    again = open_study(str(tmp_path / "small"), "tags", data)
    assert score(again.model, again.question).value == near.value
    assert load_any(str(tmp_path / "small")).model.config.id2label[1] == "B-PER"
    assert (tiny.sha(study.model), tiny.hooks(study.model)) == (before, hooks)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    base = tmp_path_factory.mktemp("tags")
    return taggers.folders(base, "bert")


@pytest.fixture(scope="module")
def study(place):
    return open_study(str(place[0]), "tags", place[1])


def test_what_is_told(study, place, tmp_path):
    assert repr(study).startswith(f"Study({str(place[0])!r}, 'tags': entity_f1 on 30 sentences, statistics on 40 sentences")
    assert any("begin with I- and no B- before it: they count" in note for note in study.notes)
    row = check_task(study)
    words = sum(len(words) for words, _ in taggers.tagged(30, 2))
    assert row.why.startswith(f"tags: {', '.join(taggers.NAMES)}, entity_f1 on {words:,} words of 30 sentences.")
    one = open_study(str(place[0]), "tags", place[1] / "test.txt", max_length=6, sentences=20, metric="word_accuracy")
    told = " ".join(one.notes)
    for what in ("sample of 20 of 30", "Statistics are taken on the sentences that are scored", "cut off or have no token"):
        assert what in told
    assert one.question.task.metrics == ("word_accuracy", "entity_f1") and "longer than 6 tokens" in told
    clean = taggers.write(tmp_path / "clean.txt", [(["a", "film"], ["B-PER", "I-PER"]), (["dull"], ["O"])] * 2)
    assert open_study(str(place[0]), "tags", clean).notes == ("Statistics are taken on the sentences that are scored.",)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"data": None}, "Which tagged words"),
        ({"stride": 4}, "does not take --stride"),
        ({"separator": ";"}, "does not take --separator"),
        ({"metric": "accuracy"}, "no metric 'accuracy'"),
        ({"labels": ("O", "B-PER")}, "names 2 tags"),
        ({"max_length": 400}, "cannot be cut to 400"),
    ],
)
def test_what_is_refused(options, what, place):
    with pytest.raises(VPError, match=what) as told:
        open_study(str(place[0]), "tags", **{"data": place[1]} | options)
    assert "\n" not in str(told.value) and str(told.value).endswith(".")


def test_models_that_tag_no_words(place, tmp_path):
    classifier = tiny.save(tmp_path / "c", *tiny.make("bert"))
    with pytest.raises(VPError, match="tags no words"):
        open_study(str(classifier), "tags", place[1])
    with pytest.raises(VPError, match=r"tags the words of a text, and .*tagged words \(--task tags --data DIR\)"):
        load_model(str(place[0]), "classes")


def test_tags_by_number_in_another_order(place, tmp_path):
    """The model's own answers as the data, numbered otherwise: found out, and not scored."""
    model, tok = taggers.tagger("bert"), tiny.tokenizer("bert")
    order, rows = [0, 3, 4, 1, 2], []
    for words, _ in taggers.tagged(60, 9):
        said = [taggers.NAMES.index(piece.tag) for piece in tag(model, tok, " ".join(words)).words]
        rows.append({"tokens": words, "ner_tags": [order[i] for i in said]})
    path = tmp_path / "numbers.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with pytest.raises(VPError, match=r"fit the numbers 0, 3, 4, 1, 2 better .*--labels 0,3,4,1,2"):
        open_study(str(place[0]), "tags", path)
    said = open_study(str(place[0]), "tags", path, labels=("0", "3", "4", "1", "2"))
    assert score(said.model, said.question).others["word_accuracy"] == 1 and said.question.names == taggers.NAMES


def test_points_of_a_curve_are_kept_and_resumed(study, tmp_path):
    store = CurveStore(tmp_path / "curve.parquet")
    rows = list(sweep(study, [Recipe(), RECIPES["best"]], [0.0, 0.3], None, store))
    again = list(sweep(study, [Recipe(), RECIPES["best"]], [0.0, 0.3], None, CurveStore(tmp_path / "curve.parquet")))
    assert [row["value"] for row in again] == [row["value"] for row in rows] and rows[0]["metric"] == "entity_f1"
    right = score_of(again[0]).right
    assert right.tolist() == score(study.model, study.question).right.tolist()


def the_batch(lessons, n=6):
    (batch,) = make_batches(lessons.data, range(n), 10**6)
    return batch


def test_the_loss_of_training_is_that_of_transformers(study, place):
    lessons = lessons_of(study, "tags", place[1])
    assert isinstance(lessons, TagLessons) and len(lessons.data) == 40 and not lessons.notes
    assert lessons_of(study, "tags", place[1] / "test.txt").notes
    batch, model = the_batch(lessons), taggers.tagger("bert")
    labels = torch.full(batch.inputs["input_ids"].shape, -100)
    for row, i in enumerate(batch.examples):
        labels[row, lessons.data.read[int(i)]] = torch.from_numpy(lessons.gold[int(i)])
    found = WordTags(lessons.data, lessons.gold).loss(model, batch, lambda inputs: model(**inputs), 0)
    torch.testing.assert_close(found, model(**batch.inputs, labels=labels).loss)


def test_a_teacher_by_hand(study, place):
    """α·loss + (1 − α)·T²·KL over words in float64, the teacher's outputs in another order."""
    lessons, student = lessons_of(study, "tags", place[1]), taggers.tagger("bert")
    turned = [0, 3, 4, 1, 2]
    other = taggers.tagger("distilbert", 5, names=tuple(taggers.NAMES[i] for i in turned))
    tok = tiny.tokenizer("bert")
    teacher = Teacher.make(other, tok, student, tok)
    batch = the_batch(lessons)
    found = WordTags(lessons.data, lessons.gold, teacher, 0.3, 2.0).loss(student, batch, lambda inputs: student(**inputs), 0)
    with torch.no_grad():
        mine = student(**batch.inputs).logits[batch.counted].double().numpy()
        inputs = {name: value for name, value in batch.inputs.items() if name != "token_type_ids"}
        theirs = other(**inputs).logits[batch.counted].double().numpy()
    theirs = theirs[:, [turned.index(i) for i in range(5)]]
    gold = np.concatenate([lessons.gold[int(i)] for i in batch.examples])
    loss = -log_softmax(mine, axis=1)[np.arange(len(gold)), gold].mean()
    p, q = (log_softmax(z / 2, axis=1) for z in (theirs, mine))
    soft = 4 * (np.exp(p) * (p - q)).sum(axis=1).mean()
    assert found.item() == pytest.approx(0.3 * loss + 0.7 * soft, rel=1e-5)
    with pytest.raises(VPError, match="teacher's labels are O, B-X"):
        Teacher.make(taggers.tagger("bert", names=("O", "B-X", "I-X", "B-Y", "I-Y")), tok, student, tok)
    with pytest.raises(VPError, match="teacher predicts classes, the student tags"):
        Teacher.make(tiny.classifier("bert", 5), tok, student, tok)


def test_training_raises_the_score(tmp_path):
    folder, _ = taggers.folders(tmp_path, "bert", initializer_range=0.02)
    data = taggers.write(tmp_path / "a.txt", taggers.learnable(60))
    study = open_study(str(folder), "tags", data)
    lessons = lessons_of(study, "tags", data)
    tuned = fine_tune(study, lessons, Schedule(steps=60, batch=16, lr=3e-3, precision="float32"))
    assert tuned.after.value > tuned.before.value + 0.3 and tuned.after.others["word_accuracy"] > 0.7


@pytest.mark.parametrize("method", ["variance", "magnitude", "movement", "struct"])
def test_every_method_trains_a_tagger(method, place, tmp_path, capsys):
    """Through the command line, pruned while it trains; the result is opened again."""
    row = printed(
        capsys, "train", place[0], "--task", "tags", "--data", place[1], "--method", method, "--out", tmp_path / "run", *SHORT,
        "--steps", "10", "--until", "0.3",
    )  # fmt: skip
    assert row["metric"] == "entity_f1"
    again = printed(capsys, "eval", tmp_path / "run", "--task", "tags", "--data", place[1])
    assert again["value"] == pytest.approx(row["value"])


def test_a_fresh_head_on_an_encoder(tmp_path, capsys):
    """With as many outputs as the training set has tags, called so; the model that comes of it is opened as any."""
    _, data = taggers.folders(tmp_path, "bert")
    encoder = tiny.build("bert", "Model", vocab_size=420, **tiny.sizes("bert", tiny.HIDDEN, tiny.FFN, 2))
    folder = tiny.save(tmp_path / "encoder", encoder, tiny.tokenizer("bert"))
    names = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    study = open_study(str(folder), "tags", data, fresh_head=True)
    assert study.question.names == names and any("is new" in note for note in study.notes)
    assert tiny.sha(study.model) == tiny.sha(open_study(str(folder), "tags", data, fresh_head=True).model)
    asked = ("--task", "tags", "--data", data)
    done = printed(capsys, "finetune", folder, *asked, "--fresh-head", "--out", tmp_path / "tuned", *SHORT)
    again = open_study(str(tmp_path / "tuned"), "tags", data)
    assert again.question.names == names and score(again.model, again.question).value == pytest.approx(done["after"]["value"])
    with pytest.raises(VPError, match="fresh-head"):
        open_study(str(folder), "tags", data)
    (tmp_path / "n.jsonl").write_text('{"tokens": ["a", "film"], "tags": [0, 1]}\n' * 4, encoding="utf-8")
    with pytest.raises(VPError, match="are numbers: say what the outputs"):
        open_study(str(folder), "tags", tmp_path / "n.jsonl", fresh_head=True)
    said = open_study(str(folder), "tags", tmp_path / "n.jsonl", fresh_head=True, labels=("O", "B-X"))
    assert said.question.names == ("O", "B-X") and said.question.gold[0].tolist() == [0, 1]


def test_the_command_line(place, tmp_path, capsys):
    model, data = place
    asked = ("--task", "tags", "--data", data)
    row = printed(capsys, "eval", model, *asked)
    assert (row["metric"], row["n"]) == ("entity_f1", 30) and 0 < row["word_accuracy"] < 1
    rows = printed(capsys, "curve", model, *asked, "--sparsities", "0,0.5", "--plot", tmp_path / "curve.html")
    assert len(rows) == 6 and "entity F1" in (tmp_path / "curve.html").read_text(encoding="utf-8")
    made = printed(capsys, "prune", model, *asked, "--sparsity", "0.5", "--out", tmp_path / "small")
    assert made["parameters"] < made["parameters_dense"]
    small = printed(capsys, "eval", tmp_path / "small", *asked)
    assert small["value"] == pytest.approx(next(r for r in rows if r["sparsity"] == 0.5)["value"], abs=0.02)
    assert {row["name"]: row["can"] for row in printed(capsys, "check", model, *asked)}["task"]
    assert printed(capsys, "stats", model, *asked)["tokens"] > 40
    assert main(["eval", str(model), "--task", "tags", "--data", str(tmp_path / "none")]) == 2
    assert "There is no file" in capsys.readouterr().err


def test_a_text_of_ones_own(study, place):
    """Pieces make up the text as it was written; tags and their probabilities are the model's."""
    text = "  A dull film,\n\nand  we hated it... "
    found = tag(study.model, study.loaded.tokenizer, text)
    assert "".join(piece.text for piece in found.pieces) == text and not found.cut and found.names == taggers.NAMES
    words = [piece.text for piece in found.words]
    assert words == ["A", "dull", "film", ",", "and", "we", "hated", "it", ".", ".", "."]
    inputs = study.loaded.tokenizer(words, is_split_into_words=True, return_tensors="pt")
    with torch.no_grad():
        told = study.model(**inputs).logits[0].softmax(1)[[inputs.word_ids(0).index(i) for i in range(len(words))]]
    for piece, row in zip(found.words, told, strict=True):
        assert piece.tag == taggers.NAMES[int(row.argmax())] and piece.probability == pytest.approx(float(row.max()))
    assert found.pieces[0] == Piece("  ") and found.pieces[0].tag is None
    cut = tag(study.model, study.loaded.tokenizer, text, max_length=6)
    assert cut.cut and len(cut.words) == 4 and "".join(piece.text for piece in cut.pieces) == text
    assert tag(study.model, study.loaded.tokenizer, "Élodie's e-mail", names="VWXYZ").words[0].tag in "VWXYZ"
    for wrong in ("", " \n "):
        with pytest.raises(VPError, match="no words"):
            tag(study.model, study.loaded.tokenizer, wrong)
    with pytest.raises(VPError, match="tags no words"):
        tag(tiny.classifier("bert"), study.loaded.tokenizer, "a film")
