"""The small image classifier that comes along: its scans, what it knows, and how it is built."""

import json
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from vp_core.asking.pictures.rgb import as_rgb
from vp_core.demo.digits.build import DEAL_SEED, LIMIT, build
from vp_core.demo.digits.scans import NAMES, as_parquet, deal
from vp_core.demo.digits.train import TrainSettings, disturbed, make_model, pixels
from vp_core.demo.load import IMAGE_FILES, IMAGES, MODEL_FILE, load_demo_images
from vp_core.demo.making.build import folder_bytes
from vp_core.loading.load import load_model
from vp_core.opening.images import predict_images
from vp_core.opening.study import open_study
from vp_core.recipes import RECIPES, Recipe


@pytest.fixture(scope="module")
def demo_images():
    return open_study("demo-images")


@pytest.fixture(scope="module")
def metrics():
    return json.loads((IMAGES / "metrics.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("split", IMAGE_FILES)
def test_committed_scans_are_those_of_scikit_learn(split):
    """Pixel by pixel, in the order that they were dealt in."""
    images, labels = deal(DEAL_SEED, TrainSettings().train)[split]
    table = pq.read_table(IMAGES / IMAGE_FILES[split])
    assert table.column("label").to_pylist() == labels.tolist()
    for row, image in zip(table.column("image").to_pylist(), images, strict=True):
        assert (np.asarray(as_rgb(row["bytes"], "x")) == image[..., None]).all()


def test_no_scan_is_in_both_files():
    """But for two that are equal in the data set itself there would be none."""
    parts = deal(DEAL_SEED, TrainSettings().train)
    train, test = ({image.tobytes() for image in images} for images, _ in parts.values())
    assert not train & test
    assert sum(len(labels) for _, labels in parts.values()) == 1797


def test_the_folder_is_small_and_says_what_is_in_it(metrics):
    assert folder_bytes(IMAGES) <= LIMIT
    assert metrics["parameters"] == sum(p.numel() for p in load_demo_images()[0].parameters())
    assert metrics["settings"] == json.loads(json.dumps(TrainSettings().__dict__))
    assert "Attribution 4.0" in (IMAGES / "LICENSE-MODEL.md").read_text(encoding="utf-8")


def test_opened_without_network_by_its_name_alone(demo_images, metrics):
    found = demo_images.score(Recipe(), 0)
    assert found.value == metrics["accuracy_int8"] >= 0.97 and found.total == 500
    assert found.others["top5_accuracy"] > 0.99 and demo_images.question.task.labels == NAMES
    assert len(demo_images.calibration) == 512


def test_pixel_values_of_the_training_are_those_of_the_processor(demo_images):
    images, _ = deal(DEAL_SEED, TrainSettings().train)["test"]
    given = demo_images.question.data.together(range(20)).inputs["pixel_values"]
    torch.testing.assert_close(given, pixels(images[:20]), rtol=0, atol=1e-6)


def test_a_curve_worth_looking_at(demo_images):
    """Half of the rows of every type is too much, half of the FFN neurons is not."""
    dense = demo_images.score(Recipe(), 0).value
    neurons = demo_images.score(Recipe(units=("ffn neurons",)), 0.5).value
    assert dense - 0.05 < neurons <= dense
    assert demo_images.score(RECIPES["best"], 0.3).value > dense - 0.05
    assert demo_images.score(RECIPES["paper"], 0.7).value < 0.6


def test_a_large_scan_is_read_as_well(demo_images):
    """Drawn larger, a digit stays the digit it is."""
    images, labels = deal(DEAL_SEED, TrainSettings().train)["test"]
    large = [Image.fromarray(image).resize((96, 96), Image.Resampling.BICUBIC).convert("RGB") for image in images[:60]]
    said = predict_images(demo_images, demo_images.model, large)
    assert said.shape == (60, 10) and np.allclose(said.sum(axis=1), 1) and (said.argmax(axis=1) == labels[:60]).mean() > 0.9


def test_disturbed_images_are_the_same_without_a_disturbance():
    images, _ = deal(DEAL_SEED, 10)["train"]
    still = TrainSettings(turn=0, move=0, resize=0)
    draw = torch.Generator().manual_seed(0)
    torch.testing.assert_close(disturbed(pixels(images), still, draw), pixels(images), rtol=0, atol=1e-5)
    moved = disturbed(pixels(images), TrainSettings(), draw)
    assert moved.shape == (10, 3, 8, 8) and moved.min() >= -1 - 1e-5 and not torch.equal(moved, pixels(images))


@pytest.mark.slow
def test_built_twice_it_is_the_same(tmp_path):
    """With one epoch: weights, scans and metrics, bit for bit."""
    settings = TrainSettings(epochs=1)
    for name in ("a", "b"):
        build(tmp_path / name, settings)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name
    for split, name in IMAGE_FILES.items():
        assert (IMAGES / name).read_bytes() == as_parquet(*deal(DEAL_SEED, settings.train)[split])


def test_weights_are_eight_bits(demo_images):
    """What is read is what was stored, and loading takes no time."""
    started = time.perf_counter()
    model, _ = load_demo_images()
    assert time.perf_counter() - started < 2
    assert load_model("demo-images", "images").fingerprint == demo_images.loaded.fingerprint
    assert (IMAGES / MODEL_FILE).stat().st_size < 1.5 * sum(p.numel() for p in model.parameters())
    assert make_model(TrainSettings()).state_dict().keys() == model.state_dict().keys()
