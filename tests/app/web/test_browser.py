"""The app in a real process and a real browser: what a visitor sees, drags, saves and types."""

import csv
import json
import re
from urllib.parse import urlencode

import pytest
from pages import IN_A_BROWSER, ready

from benchmarks.browser import browser_page, drag_slider, wait_for_exact

pytestmark = [*IN_A_BROWSER, pytest.mark.slow]

# What a figure shows now; undefined while it is not there.
_HEAT = """() => [...document.querySelectorAll('.vp-canvas')]
    .find(c => c.data?.[0]?.type === 'heatmap')?.data[0].z.map(row => [...row])"""
_MARKER = """() => [...document.querySelectorAll('.vp-canvas')]
    .find(c => c.data?.some(t => t.name === 'slider'))?.data.find(t => t.name === 'slider').x[0]"""
_REMOVED = """() => [...document.querySelectorAll('.vp-canvas')]
    .find(c => c.data?.some(t => t.name === 'removed'))?.data
    .filter(t => t.name === 'removed').flatMap(t => [...t.y]).filter(y => y !== null).length"""
_ALL_AT = "(position) => [...document.querySelectorAll('.vp-canvas')].every(c => c.dataset.position === position)"


def figures_at(page, position: int) -> None:
    """Wait until every figure has drawn this position of the slider; each follows in a frame of its own."""
    page.wait_for_function(_ALL_AT, arg=str(position))
    assert page.evaluate(_MARKER) == position


def big_number(page) -> str:
    return page.locator(".st-key-score [data-testid=stMetricValue]").inner_text()


@pytest.fixture
def evaluated(vp):
    """What `vp eval` of the demo says."""

    def ask(*arguments):
        said, errors = vp("eval", "demo", *arguments, "--json").communicate()
        assert said, errors
        return json.loads(said)

    return ask


def test_figures_follow_the_thumb_and_the_score_follows_the_release(app, evaluated):
    with browser_page(app, height=2400) as page:  # every figure in sight: one that is not waits
        ready(page)
        score_before, heat_before = big_number(page), page.evaluate(_HEAT)
        removed_before = page.evaluate(_REMOVED)
        drag_slider(page, 65, release=False)
        figures_at(page, 65)
        heat = page.evaluate(_HEAT)
        assert heat != heat_before and page.evaluate(_REMOVED) > removed_before
        assert big_number(page) == score_before  # nothing is asked of Python while the thumb moves
        assert "sparsity" not in page.url
        page.mouse.up()
        page.wait_for_url("**sparsity=0.65**")
        page.wait_for_function(
            f"() => document.querySelector('.st-key-score [data-testid=stMetricValue]').innerText !== {score_before!r}"
        )
        wait_for_exact(page)
        command_line = evaluated("--sparsity", "0.65")
        assert big_number(page) == f"{100 * command_line['value']:.1f} %"
        shares = [cell for row in heat for cell in row]
        rows = [384] * 4 + [1536, 384]
        gone = sum(share / 100 * rows[i % 6] for i, share in enumerate(shares))
        assert gone == pytest.approx(command_line["rows_removed"], abs=36)  # each of 36 cells is rounded to 0.1 %


def test_the_curve_fills_in_by_itself_and_can_be_stopped(own_app, short_demo):
    with browser_page(f"{own_app}/?{urlencode(short_demo)}") as page:
        ready(page)
        progress = page.get_by_text(re.compile(r"\d+ of 30 points"))
        progress.wait_for()
        page.get_by_role("button", name="Cancel").click()
        stopped = page.get_by_text(re.compile(r"Stopped after \d+ points; they are kept\."))
        stopped.wait_for()
        count = int(re.search(r"\d+", stopped.inner_text()).group())
        page.get_by_role("button", name="Go on").click()
        page.wait_for_function(
            f"() => {{ const t = document.body.innerText.match(/(\\d+) of 30 points/); return t && Number(t[1]) > {count} }}",
            timeout=180_000,
        )


def test_every_figure_can_be_had_as_png_svg_and_csv(app):
    with browser_page(f"{app}/?show=query") as page:
        ready(page)
        figures = page.locator(".vp-figure")
        assert figures.count() == 4
        for i in range(4):
            for name, start in (("PNG", b"\x89PNG"), ("SVG", b"<svg")):
                with page.expect_download() as download:
                    figures.nth(i).get_by_role("button", name=name).click()
                content = download.value.path().read_bytes()
                assert content.startswith(start) and len(content) > 3000
        tables = page.get_by_role("button", name="CSV")
        assert tables.count() == 4
        columns = []
        for i in range(4):
            with page.expect_download() as download:
                tables.nth(i).click()
            with download.value.path().open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
            columns.append((len(rows), *rows[0])[:4])
        assert columns[1:] == [
            (36, "layer", "type", "rows"), (6 * 384, "layer", "neuron", "score"), (6 * 384, "layer", "neuron", "score")
        ]  # fmt: skip
        assert columns[0][1:] == ("line", "recipe", "criterion")


@pytest.mark.parametrize("dark", [False, True])
def test_figures_take_the_colours_of_the_page(app, dark):
    with browser_page(app, dark=dark) as page:
        ready(page)
        colour = page.evaluate("() => document.querySelector('.vp-canvas').layout.font.color")
        channels = [int(colour[i : i + 2], 16) for i in (1, 3, 5)] if colour.startswith("#") else None
        assert channels, colour
        assert (sum(channels) > 600) == dark


def test_two_visitors_do_not_meet(app, short_demo, evaluated):
    here = f"{app}/?{urlencode(short_demo)}"
    with browser_page(f"{here}&sparsity=0.1") as first:
        ready(first)
        other = first.context.browser.new_context().new_page()
        other.goto(f"{here}&sparsity=0.6&criterion=magnitude")
        ready(other)
        drag_slider(first, 25)
        first.wait_for_url("**sparsity=0.25**")
        wait_for_exact(first)
        assert other.locator(".vp-slider input").input_value() == "60"
        figures_at(other, 60)
        question = ("--task", short_demo["task"], "--data", short_demo["data"])
        magnitude = evaluated(*question, "--sparsity", "0.6", "--criterion", "magnitude")
        assert big_number(other) == f"{100 * magnitude['value']:.1f} %"


@pytest.mark.parametrize("value", ["1.2", "abc"])
def test_a_bad_sparsity_in_the_address_is_a_message(app, value):
    with browser_page(f"{app}/?sparsity={value}") as page:
        page.get_by_text(f"'{value}' is not a number between 0 and 1").wait_for()
        ready(page)


def test_a_model_that_is_not_there_is_a_message_and_the_page_stays_usable(app):
    with browser_page(f"{app}/?model=../../x") as page:
        page.get_by_text("There is no model '../../x'").wait_for()
        page.get_by_role("combobox", name="Model").fill("demo")
        page.get_by_role("option", name="demo · good or bad?").click()
        page.get_by_test_id("stBaseButton-secondaryFormSubmit").click()
        ready(page)


def test_best_is_one_click_away_and_comes_while_the_page_stays_alive(own_app):
    with browser_page(f"{own_app}/?sparsity=0.5&calibration=128", height=2400) as page:
        ready(page)
        paper = big_number(page)
        page.get_by_test_id("stSidebar").get_by_text("Best", exact=True).click()
        page.wait_for_url("**basis=principal**")
        page.get_by_text("Sparsity: share of linear parameters removed").wait_for()
        page.locator(".st-key-score").get_by_text(re.compile(r"Measuring what each layer loses: \d+ of 18")).wait_for()
        wait_for_exact(page, 480)
        assert float(big_number(page).removesuffix(" %")) > float(paper.removesuffix(" %")) + 20
        page.wait_for_function(f"() => ({_HEAT})()?.[0].length === 3 && ({_REMOVED})() > 0")
        before = page.evaluate(_REMOVED)
        drag_slider(page, 80, release=False)
        figures_at(page, 80)
        assert page.evaluate(_REMOVED) > before
        page.mouse.up()
        page.get_by_test_id("stSidebar").get_by_text("Paper", exact=True).click()
        page.wait_for_function("() => !location.search.includes('basis')")
        page.get_by_text("Sparsity: share of rows removed").wait_for()


def test_a_language_model_is_a_choice_away_and_its_tokens_say_their_loss(app):
    with browser_page(f"{app}/?calibration=64", height=2000) as page:
        wait_for_exact(page)
        page.get_by_role("combobox", name="Model").click()
        page.get_by_role("option", name="demo-text").click()
        page.get_by_test_id("stBaseButton-secondaryFormSubmit").click()
        page.wait_for_url("**task=demo-text**")
        page.get_by_text("perplexity without fine-tuning").wait_for()
        wait_for_exact(page)
        before = page.locator(".st-key-score [data-testid=stMetricValue]").inner_text()
        drag_slider(page, 40)
        page.wait_for_url("**sparsity=0.4**")
        page.wait_for_function(
            f"() => document.querySelector('.st-key-score [data-testid=stMetricValue]').innerText !== {before!r}"
        )
        wait_for_exact(page)
        assert float(page.locator(".st-key-score [data-testid=stMetricValue]").inner_text().replace(",", "")) > float(before)
        page.wait_for_function("() => document.querySelectorAll('.vp-text').length === 2")
        token = page.locator(".vp-token").nth(5)
        tip = token.locator(".vp-tip")
        assert not tip.is_visible()
        token.hover()
        tip.wait_for()
        assert "nats" in tip.inner_text() and "likeliest here" in tip.inner_text()
