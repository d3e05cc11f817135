"""Image classifiers from folder to score: against a plain loop, in every family, and all that a text classifier can do."""

import json

import numpy as np
import pictures
import pytest
import tiny
import torch
from pictures import NAMES
from PIL import Image

from vp_core.asking.batches import make_batches
from vp_core.asking.evaluate import outputs_by_batch, score
from vp_core.asking.pictures import inputs
from vp_core.check import check_task
from vp_core.ground.errors import VPError
from vp_core.loading.load import load_model
from vp_core.opening.images import predict_images
from vp_core.opening.study import open_study
from vp_core.recipes import RECIPES, Recipe
from vp_core.running.finetune import fine_tune
from vp_core.running.lessons import lessons_of
from vp_core.squeezing.folder import save_pruned
from vp_core.squeezing.onnx import export_onnx
from vp_core.squeezing.timing import random_texts, time_forward
from vp_core.training.schedule import Schedule

N = 70


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Pictures of several sizes, whose classes are what the tiny ViT says, every seventh another."""
    folder = tmp_path_factory.mktemp("pictures")
    model, own = pictures.seer()
    for split, n, seed in (("test", N, 5), ("train", 40, 6)):
        drawn = pictures.drawn(n, seed)
        said = pictures.plain_loop(model, own, drawn).argmax(axis=1)
        for i, (one, label) in enumerate(zip(drawn, said, strict=True)):
            label = int(label + (i % 7 == 0)) % 7
            place = folder / split / NAMES[label]
            place.mkdir(parents=True, exist_ok=True)
            one.save(place / f"{i:03}.png")
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    base = tmp_path_factory.mktemp("seers")
    return {family: pictures.save(base / family, family) for family in tiny.SEEING}


@pytest.fixture(scope="module")
def studies(folders, data):
    return {family: open_study(str(folder), "images", data) for family, folder in folders.items()}


def stored(study):
    return [study.question.data.stored.picture(i) for i in range(len(study.question))]


@pytest.mark.parametrize("family", tiny.SEEING)
def test_scores_are_those_of_a_plain_loop(studies, folders, family):
    study = studies[family]
    found = study.score(Recipe(), 0)
    model, own = pictures.seer(family)
    logits = pictures.plain_loop(model, own, stored(study))
    labels = study.question.labels
    assert found.right.tolist() == (logits.argmax(axis=1) == labels).tolist()
    assert found.value == (logits.argmax(axis=1) == labels).mean()
    top = np.argsort(-logits, axis=1)[:, :5]
    assert found.others["top5_accuracy"] == pytest.approx((top == labels[:, None]).any(axis=1).mean())
    assert study.question.data.longest == 17 + (family == "deit") and found.value > 0.1
    assert type(study.model).__name__ == type(model).__name__ and study.measured_on == "images"


@pytest.mark.parametrize("family", tiny.SEEING)
def test_company_and_size_of_a_batch_change_nothing(studies, family):
    study = studies[family]
    each = {}
    for tokens in (1, 200, 10_000):
        batches = make_batches(study.question.data, np.random.default_rng(tokens).permutation(N), tokens)
        for batch, outputs in outputs_by_batch(study.model, study.question, batches):
            for i, row in zip(batch.examples, outputs, strict=True):
                each.setdefault(int(i), []).append(row)
    spread = max(float((torch.stack(rows) - rows[0]).abs().max()) for rows in each.values())
    assert len(each) == N and spread <= 1e-4 * max(float(rows[0].abs().max()) for rows in each.values())


def test_pixel_values_are_those_of_the_processor_alone(studies):
    data = studies["vit"].question.data
    batch = data.together([3, 0, 11])
    expected = [data.processor(data.stored.picture(i), return_tensors="pt")["pixel_values"][0] for i in (3, 0, 11)]
    assert torch.equal(batch.inputs["pixel_values"], torch.stack(expected)) and batch.real_tokens() is None


def test_memory_is_bounded(folders, data, monkeypatch):
    """Beyond what is kept, pictures are processed again, with the same answers."""
    whole = open_study(str(folders["vit"]), "images", data)
    expected = whole.score(Recipe(), 0)
    assert len(whole.question.data._kept) == N
    monkeypatch.setattr(inputs, "KEPT_BYTES", 10 * 3 * 32 * 32 * 4)
    few = open_study(str(folders["vit"]), "images", data)
    found = few.score(Recipe(), 0)
    assert len(few.question.data._kept) == 10 and found.right.tolist() == expected.right.tolist()
    assert few.data_id == whole.data_id and few.calibration_id == whole.calibration_id


def test_the_same_pictures_are_the_same_data(folders, data, tmp_path, studies):
    """Whatever the folder is called; one pixel makes another."""
    import shutil

    shutil.copytree(data, tmp_path / "copy")
    copy = open_study(str(folders["vit"]), "images", tmp_path / "copy")
    assert copy.data_id == studies["vit"].data_id and copy.calibration_id == studies["vit"].calibration_id
    path = next((tmp_path / "copy" / "test").rglob("*.png"))
    pixels = np.array(Image.open(path))
    pixels[0, 0, 0] ^= 1
    Image.fromarray(pixels).save(path)
    assert open_study(str(folders["vit"]), "images", tmp_path / "copy").data_id != copy.data_id


RECIPE = {
    "paper": (RECIPES["paper"], 0.3),
    "least squares": (Recipe(units=("ffn neurons",), replacement="least squares"), 0.4),
    "best": (RECIPES["best"], 0.3),
    "weights": (RECIPES["weights best"], 0.5),
}


@pytest.mark.parametrize("name", RECIPE)
@pytest.mark.parametrize("family", tiny.SEEING)
def test_recipes(studies, family, name):
    """Squeezed as pruned, example by example."""
    study, (recipe, sparsity) = studies[family], RECIPE[name]
    pruned, small = study.pruned(recipe, sparsity), study.squeezed(recipe, sparsity)
    given = study.question.data.together(range(12)).inputs
    assert tiny.distance(tiny.logits(small, given), tiny.logits(pruned, given)) <= 2e-3
    assert (
        study.score(recipe, sparsity).final
        and study.cost(recipe, sparsity).parameters_left < study.cost(recipe, 0).parameters_left
    )


@pytest.mark.parametrize("family", tiny.SEEING)
def test_a_squeezed_folder_is_a_study(studies, data, family, tmp_path):
    study, recipe = studies[family], Recipe(scope="global")
    save_pruned(study.squeezed(recipe, 0.3), tmp_path / "small", study.loaded.reader)
    small = open_study(str(tmp_path / "small"), "images", data)
    assert small.score(Recipe(), 0).right.tolist() == study.score(recipe, 0.3).right.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("family", tiny.SEEING)
def test_onnx_answers_like_torch(studies, family, tmp_path):
    """Of a squeezed model, free in batch."""
    onnxruntime = pytest.importorskip("onnxruntime")
    study = studies[family]
    small = study.squeezed(Recipe(scope="global"), 0.3)
    path = export_onnx(small, tmp_path / "model.onnx", study.loaded.reader)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    given = study.question.data.together(range(7)).inputs
    (found,) = session.run(["logits"], {name: value.numpy() for name, value in given.items()})
    assert [one.name for one in session.get_inputs()] == ["pixel_values"]
    assert tiny.distance(torch.from_numpy(found), tiny.logits(small, given)) <= 1e-4


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_other_arithmetic(studies, precision):
    study = studies["vit"]
    exact, found = study.score(Recipe(), 0), study.score(Recipe(), 0, precision)
    assert (exact.right == found.right).mean() > 0.8


@pytest.mark.parametrize("family", tiny.SEEING)
def test_weights_kept_in_bfloat16(folders, data, studies, family):
    found = open_study(str(folders[family]), "images", data, dtype="bfloat16").score(Recipe(), 0)
    assert (found.right == studies[family].score(Recipe(), 0).right).mean() > 0.8


@pytest.mark.parametrize("family", ["vit", "deit", "beit"])
def test_training_with_a_teacher(studies, data, family):
    study = studies[family]
    lessons = lessons_of(study, "images", data)
    before = tiny.sha(study.model)
    tuned = fine_tune(study, lessons, Schedule(epochs=1, batch=8, lr=1e-3, precision="float32"), teacher=study.loaded)
    assert np.isfinite(tuned.loss) and tiny.sha(study.model) == before != tiny.sha(tuned.model)
    outputs = [study.question.order[i] for i in lessons.targets]
    expected = [path.parent.name for path in lessons.data.stored.paths]
    assert lessons.notes == ()
    assert [study.question.task.labels[i] for i in outputs] == expected


def test_a_teacher_with_another_processor(studies, data, folders, tmp_path):
    study = studies["vit"]
    model, _ = pictures.seer()
    model.save_pretrained(tmp_path)
    pictures.processor(do_normalize=False).save_pretrained(tmp_path)
    other = load_model(str(tmp_path), "images")
    with pytest.raises(VPError, match=r"makes other pixel values than the student's \(do_normalize\)"):
        fine_tune(study, lessons_of(study, "images", data), teacher=other)


def test_try_one(studies, folders, tmp_path, data):
    """Probabilities in the order of the task's classes, whatever the order of the outputs."""
    study = studies["vit"]
    drawn = pictures.drawn(5, 9, (70, 20))
    model, own = pictures.seer()
    logits = torch.as_tensor(pictures.plain_loop(model, own, drawn))
    np.testing.assert_allclose(predict_images(study, study.model, drawn), logits.softmax(dim=1).numpy(), atol=1e-5)
    with pytest.raises(VPError, match="image 2 is L"):
        predict_images(study, study.model, [drawn[0], drawn[1].convert("L")])


def test_speed_and_lengths(studies):
    model = studies["deit"].model
    *_, times = time_forward({"dense": model}, 2, 99, repeats=1)
    assert times["dense"].length == 18 and random_texts(model.config, 2, 99)["pixel_values"].shape == (2, 3, 32, 32)


def test_samples_headlines_and_what_is_said(folders, data, studies):
    few = open_study(str(folders["vit"]), "images", data, sentences=30, metric="top5_accuracy")
    found = few.score(Recipe(), 0)
    assert found.n == 30 and found.metric == "top5_accuracy" and "accuracy" in found.others
    assert "Scored on a random sample of 30 of 70 images." in few.notes
    assert few.calibration_id == studies["vit"].calibration_id
    row = check_task(few)
    assert row.can and row.why.startswith("images: 7 classes (boat, cat") and "30 images" in row.why
    assert repr(few).endswith("images)")


@pytest.mark.parametrize("options", [{"text": ["a"]}, {"max_length": 9}, {"stride": 4}, {"separator": ","}])
def test_options_of_texts_are_refused(folders, data, options):
    with pytest.raises(VPError, match=r"^The task images does not take --") as caught:
        open_study(str(folders["vit"]), "images", data, **options)
    assert str(caught.value).endswith(".")


def refused(say, model, task, data=None):
    with pytest.raises(VPError, match=say) as caught:
        open_study(str(model), task, data)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_a_processor_that_is_not_the_models(tmp_path, data):
    model, own = pictures.seer()
    model.save_pretrained(tmp_path)
    refused("has no image processor", tmp_path, "images", data)
    pictures.processor(16).save_pretrained(tmp_path)
    refused("makes pictures of 16 × 16, the model takes 32 × 32", tmp_path, "images", data)
    pictures.processor(do_resize=False).save_pretrained(tmp_path)
    refused("several sizes", tmp_path, "images", data)
    own.save_pretrained(tmp_path)
    about = json.loads((tmp_path / "preprocessor_config.json").read_text())
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(about | {"auto_map": {"AutoImageProcessor": "x.Y"}}))
    refused("code of its own", tmp_path, "images", data)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(about | {"image_processor_type": "NoSuchProcessor"}))
    refused("could not be read", tmp_path, "images", data)
    (tmp_path / "preprocessor_config.json").write_text("{")
    refused("no JSON", tmp_path, "images", data)


def test_what_sees_and_what_reads(folders, data):
    refused("classifies images, and is no text classifier", folders["vit"], "sst2", data)
    refused("is no language model|classifies texts", "demo", "images", data)


def test_a_picture_that_breaks_is_named(folders, tmp_path):
    pictures.write_folders(tmp_path, [i % 7 for i in range(14)])
    broken = tmp_path / "fox" / "0004.png"
    broken.write_bytes(broken.read_bytes()[:600])
    study = open_study(str(folders["vit"]), "images", tmp_path)
    with pytest.raises(VPError, match=r"0004\.png.* is broken"):
        score(study.model, study.question)
    broken.write_bytes(b"no picture")
    refused(r"0004\.png.* is no image that is read here", folders["vit"], "images", tmp_path)


def test_a_line_is_no_picture(folders, tmp_path):
    """Brought to a height of 224 it would be an array of half a gigabyte, in processors that do so."""
    pictures.write_folders(tmp_path, [i % 7 for i in range(14)])
    Image.new("RGB", (5000, 2)).save(tmp_path / "cat" / "0001.png")
    study = open_study(str(folders["vit"]), "images", tmp_path)
    with pytest.raises(VPError, match=r"0001\.png.* more than 100 times as long"):
        score(study.model, study.question)


def test_odd_pictures_are_told(folders, tmp_path):
    pictures.write_folders(tmp_path, [i % 7 for i in range(14)])
    Image.open(tmp_path / "cat" / "0001.png").convert("L").save(tmp_path / "cat" / "0001.png")
    study = open_study(str(folders["vit"]), "images", tmp_path)
    notes = study.notes
    assert lessons_of(study, "images", tmp_path).notes[0].startswith("The model learns the images that it is scored on")
    assert "1 of 14 images are grey: each is given to the model as red, green and blue alike." in notes
    assert any(note.startswith("Statistics are taken on the images that are scored") for note in notes)
