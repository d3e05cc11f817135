"""The page Speed in a real browser: measure, watch, stop, take the squeezed model away."""

import csv
import io
import re
import zipfile
from urllib.parse import urlencode

import pytest
import torch
from pages import IN_A_BROWSER

from benchmarks.browser import browser_page, wait_for_exact
from vp_core.opening.study import open_study
from vp_core.recipes import Recipe
from vp_core.squeezing.folder import load_pruned
from vp_core.squeezing.timing import random_texts

pytestmark = [*IN_A_BROWSER, pytest.mark.slow]

SMALL = "batch=1&length=4&sparsities=0.5&sparsity=0.3"
_DRAWN = "() => document.querySelectorAll('.vp-figure[data-ready]').length === 2"
_POINTS = """() => [...document.querySelectorAll('.vp-canvas')].map(
    c => Object.fromEntries(c.data.map(t => [t.name, t.x.length])))"""


def press(page, name):
    page.get_by_role("button", name=name, exact=True).click()


def download(page, name) -> bytes:
    with page.expect_download() as download:
        page.get_by_role("button", name=name).click()
    return download.value.path().read_bytes()


def test_measure_and_take_the_numbers_away(own_app, short_demo):
    with browser_page(f"{own_app}/speed?{urlencode(short_demo)}&{SMALL}&repeats=2") as page:
        page.wait_for_function(_DRAWN)
        assert page.evaluate(_POINTS) == [{"slider": 2}, {"FLOP limit": 101, "slider": 2}]
        press(page, "Measure")
        page.get_by_text(re.compile(r"\d+ of 12 steps")).wait_for()
        page.get_by_text("Measured on").wait_for()
        page.wait_for_function(f"() => ({_POINTS})().every(traces => traces.squeezed === 2)")
        everything = {"FLOP limit": 101, "dense": 2, "masked": 2, "squeezed": 2, "slider": 2}
        assert page.evaluate(_POINTS) == [everything, everything]
        assert page.get_by_test_id("stDataFrame").count() == 2
        rows = list(csv.DictReader(io.StringIO(download(page, "Speeds as CSV").decode())))
        assert [(row["sparsity"], row["form"]) for row in rows] == [
            (sparsity, form) for sparsity in ("0.3", "0.5") for form in ("dense", "masked", "squeezed")
        ]
        cost = open_study(**short_demo).cost(Recipe(), 0.5)
        assert float(rows[-1]["flop_limit"]) == pytest.approx(cost.speed_limit(4))
        bits = list(csv.DictReader(io.StringIO(download(page, "Fewer bits as CSV").decode())))
        assert len(bits) == 6 and all(row["score"] for row in bits)


def test_a_long_measurement_can_be_stopped_and_keeps_its_rows(app):
    with browser_page(f"{app}/speed?{SMALL}&repeats=100&criterion=magnitude") as page:
        page.wait_for_function(_DRAWN)
        press(page, "Measure")
        page.get_by_text(re.compile(r"[1-9]\d* of 306 steps, about \d+ s left")).wait_for()
        page.wait_for_function(f"() => 'squeezed' in ({_POINTS})()[0]")
        other = page.context.browser.new_context().new_page()
        other.goto(f"{app}/speed?{SMALL}&criterion=random")
        other.get_by_text(re.compile(r"Another measurement runs on this machine \(\d+ of 306 steps\)")).wait_for()
        assert other.get_by_role("button", name="Measure", exact=True).is_disabled()
        other.close()
        press(page, "Cancel")
        page.get_by_text(re.compile(r"Stopped after \d+ of 306 steps; what was measured is kept")).wait_for()
        assert page.evaluate(_POINTS)[0]["squeezed"] >= 1
        assert page.get_by_role("button", name="Measure", exact=True).is_enabled()


def test_the_squeezed_model_can_be_taken_away(app, tmp_path, demo, vp):
    with browser_page(f"{app}/speed?{SMALL}&replacement=zero") as page:
        page.wait_for_function(_DRAWN)
        content = download(page, "Squeezed model at the slider's sparsity")
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        file.extractall(tmp_path)
    folder = tmp_path / "demo-squeezed"
    suffixes = {path.suffix for path in folder.iterdir()}
    assert {".json", ".safetensors"} <= suffixes and not suffixes & {".bin", ".pt", ".pkl"}
    loaded = load_pruned(folder)
    expected = demo.squeezed(Recipe(replacement="zero"), 0.3)
    inputs = random_texts(loaded.config, 3, 20)
    with torch.inference_mode():
        assert torch.equal(loaded(**inputs).logits, expected(**inputs).logits)
    said, errors = vp("eval", folder, "--task", "demo").communicate()
    assert said.startswith("accuracy 0."), errors


def test_the_other_page_has_the_same_settings(app):
    with browser_page(f"{app}/speed?{SMALL}&criterion=magnitude") as page:
        page.wait_for_function(_DRAWN)
        page.get_by_role("link", name="Explore").click()
        wait_for_exact(page)
        page.wait_for_function("() => document.querySelector('.vp-slider input')?.value === '30'")
        page.wait_for_url(re.compile(r"/\?.*criterion=magnitude.*length=4"))
        page.get_by_role("link", name="Speed").click()
        page.wait_for_function(_DRAWN)
        assert page.get_by_role("spinbutton", name="Length").input_value() == "4"
        page.wait_for_url(re.compile(r"/speed\?.*criterion=magnitude"))
