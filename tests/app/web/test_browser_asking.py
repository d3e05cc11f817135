"""How the page asks Python for what is going on: nobody's question is lost."""

import pytest
from pages import IN_A_BROWSER

from benchmarks.browser import browser_page, wait_for_exact

pytestmark = [*IN_A_BROWSER, pytest.mark.slow]

_BUSY = "(ms) => { const end = performance.now() + ms; while (performance.now() < end) {} }"
_FORGOTTEN = "Multiple different fragmentIds"
"""What Streamlit says when it sends two parts' questions as one and forgets the other."""
_CLICK_BEFORE_IT_IS_SENT = """(button) => {
    const later = window.setTimeout
    window.setTimeout = (call, ms, ...more) => {
        if (ms !== 0 || !/scheduleFlush/.test(new Error().stack)) return later(call, ms, ...more)
        window.setTimeout = later
        later(() => button.click(), 50)
        return later(call, 300, ...more)
    }
}"""
"""The next message of Streamlit's widgets, a panel's question, leaves late enough that a click goes with it."""


def test_questions_that_come_due_together_are_all_asked(own_app):
    """A page that is busy for a moment finds several due at once: score, curve and figures."""
    with browser_page(own_app) as page:
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.locator(".st-key-score").get_by_text("going on").wait_for()
        for _ in range(6):
            page.evaluate(_BUSY, 1200)
            page.wait_for_timeout(150)
        wait_for_exact(page)
        assert not [text for text in said if _FORGOTTEN in text]


def test_a_question_that_got_lost_is_asked_again(own_app):
    lost: list[int] = []

    def listen(route):
        server = route.connect_to_server()

        def pass_on(message):
            asks = b"slider__events" in (message if isinstance(message, bytes) else message.encode())
            if asks and len(lost) < 2:
                lost.append(len(message))
            else:
                server.send(message)

        route.on_message(pass_on)

    with browser_page("about:blank") as page:
        page.route_web_socket(lambda url: "_stcore" in url, listen)
        page.goto(own_app)
        wait_for_exact(page)
        assert len(lost) == 2


def test_a_click_while_others_ask_changes_the_whole_page(own_app):
    """Streamlit's own widgets concern the whole page: no fragment's question may take their place."""
    with browser_page(own_app, height=2400) as page:
        page.locator(".st-key-score").get_by_text("going on").wait_for()
        for recipe, heading in (("units mean", "Where units go"), ("Paper", "Where rows go")) * 2:
            button = page.get_by_test_id("stSidebar").get_by_text(recipe, exact=True)
            page.evaluate(f"() => {{ setTimeout({_BUSY}, 0, 1500) }}")
            button.click()
            page.get_by_text(heading).wait_for()


def test_a_click_that_goes_with_a_question_changes_the_whole_page(own_app):
    """Streamlit sends both in one message, which reruns the part that asked and no other."""
    with browser_page(own_app, height=2400) as page:
        page.locator(".st-key-score").get_by_text("going on").wait_for()
        page.get_by_test_id("stSidebar").get_by_text("units mean", exact=True).evaluate(_CLICK_BEFORE_IT_IS_SENT)
        page.get_by_text("Where units go").wait_for()
