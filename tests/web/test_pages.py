"""What people see: every page in Chromium, wide and narrow, light and dark, by keyboard."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page

from tests.filled import FORK, RUN, hostile_prompt
from tests.web.conftest import NARROW, TOKEN, WIDE, Open, Served

PAGES = {
    "runs": "/",
    "run": f"/runs/{RUN}",
    "fork": f"/runs/{FORK}",
    "iteration": f"/runs/{RUN}/iterations/1",
    "prompts": f"/runs/{RUN}/prompts",
    "prompts of an outcome": f"/runs/{RUN}/prompts?t=1&outcome=paired&margin_from=1",
    "prompt": f"/runs/{RUN}/prompts/{{hostile}}?t=1",
    "checkpoint": f"/runs/{RUN}/checkpoints/M_2",
    "compare": f"/compare?a={RUN}&b={FORK}",
    "sql": "/query",
    "saved query": "/query?saved=judge_health",
    "login": "/login",
    "nothing there": "/runs/nobody",
}
STATUS = {"nothing there": 404}
OUTER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
TOO_WIDE = """() => [...document.querySelectorAll('body *')]
    .filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('[tabindex="0"]'))
    .slice(0, 3).map(e => e.outerHTML.slice(0, 120))"""
FOCUS = """() => { const e = document.activeElement, s = getComputedStyle(e);
    return [e.tagName, e.textContent.trim().slice(0, 40),
            s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) > 0 || s.boxShadow !== 'none'] }"""
AXE = "async () => (await axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa']})).violations"


def path_of(name: str, served: Served) -> str:
    """The address of a page; the prompt is the one with the hostile texts."""
    return PAGES[name].format(hostile=hostile_prompt(served.directory))


def ask(page: Page) -> None:
    """Send the form with the SQL."""
    with page.expect_navigation():
        page.locator("main form:has(textarea) button[type=submit]").first.click()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_and_can_be_used_by_everybody(
    open_page: Open, served: Served, name: str, width: int, theme: str
) -> None:
    page = open_page(
        path_of(name, served), width=width, theme=theme, expect=STATUS.get(name, 200), bypass_csp=True
    ).page
    assert page.evaluate(OUTER) <= 0, page.evaluate(TOO_WIDE)
    assert page.locator("h1").count() == 1
    assert page.title().endswith("· selfreward")
    page.evaluate(AXE_SCRIPT)
    found = page.evaluate(AXE)
    told = [(each["id"], [node["html"][:160] for node in each["nodes"][:3]]) for each in found]
    assert told == []


def test_nothing_that_a_model_wrote_is_executed(open_page: Open, served: Served) -> None:
    for name in ("prompt", "prompts", "iteration", "run", "checkpoint"):
        page = open_page(path_of(name, served)).page
        page.wait_for_load_state("networkidle")
        assert "owned" not in page.title()
        assert page.locator("main script, main img[src=x], main b:text('bold')").count() == 0
    page = open_page(path_of("prompt", served)).page
    seen = page.locator("main").inner_text()
    assert "<script>document.title='owned'</script>" in seen, "the text is shown as it is"
    assert "\u202e" not in seen and "\x1b" not in seen, "what turns or hides text is made visible"


def test_the_hostile_text_is_only_text_in_the_results_of_sql_too(open_page: Open, served: Served) -> None:
    page = open_page("/query").page
    page.locator("textarea").fill("select text from prompt where text like '%owned%'")
    ask(page)
    assert "<script>" in page.locator("main table").first.inner_text()
    assert "owned" not in page.title()


def test_the_keyboard_comes_everywhere_and_one_sees_where_it_is(open_page: Open, served: Served) -> None:
    page = open_page(f"/runs/{RUN}").page
    page.keyboard.press("Tab")
    assert page.evaluate(FOCUS) == ["A", "Skip to content", True]
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.querySelector('main').contains(document.activeElement)")
    reached = set()
    for _ in range(12):
        tag, text, visible = page.evaluate(FOCUS)
        assert visible, f"no one sees the focus on {tag} {text!r}"
        reached.add(text)
        page.keyboard.press("Tab")
    assert len(reached) > 5


def test_plots_are_drawn_in_the_reader_s_colours_and_told_in_words(open_page: Open, served: Served) -> None:
    for theme in ("light", "dark"):
        page = open_page(f"/runs/{RUN}", theme=theme).page
        page.evaluate("document.querySelectorAll('img').forEach(i => i.loading = 'eager')")
        page.wait_for_load_state("networkidle")
        plots = page.locator("main img")
        assert plots.count() >= 5
        for plot in plots.all():
            assert plot.evaluate("i => i.complete && i.naturalWidth") > 100
            assert f"theme={theme}" in plot.evaluate("i => i.currentSrc")
            assert len(plot.get_attribute("alt") or "") > 20


def test_a_reader_walks_from_a_run_to_a_judgement(open_page: Open, served: Served) -> None:
    page = open_page("/").page
    page.locator(f"main a[href='/runs/{RUN}']").first.click()
    page.locator(f"main a[href*='/runs/{RUN}/iterations/2']").first.click()
    page.locator("main a[href*='outcome=paired']").first.click()
    page.locator(f"main a[href*='/runs/{RUN}/prompts/']").first.click()
    seen = page.locator("main").inner_text().lower()
    assert "chosen" in seen and "rejected" in seen
    assert page.locator("main ins, main del").count() > 0, "what differs is marked"
    page.locator("main details summary").first.click()
    assert page.locator("main details[open]").count() >= 1


def test_search_and_paging_find_every_prompt_once(open_page: Open, served: Served) -> None:
    with closing(sqlite3.connect(served.directory / "selfreward.db")) as connection:
        wanted = {
            row[0]
            for row in connection.execute(
                "SELECT prompt.id FROM prompt JOIN iteration ON iteration.id = prompt.iteration_id"
                " JOIN run ON run.id = iteration.run_id WHERE run.name = ? AND iteration.t = 2", (RUN,)
            )
        }  # fmt: skip
    page = open_page(f"/runs/{RUN}/prompts?t=2").page
    links = page.locator(f"main a[href*='/runs/{RUN}/prompts/']")
    hrefs = [link.get_attribute("href") or "" for link in links.all()]
    assert {int(href.split("/prompts/")[1].split("?")[0].split("#")[0]) for href in hrefs} == wanted
    page.locator("main input[name=q]").fill("zzzyx")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    assert page.locator(f"main a[href*='/runs/{RUN}/prompts/']").count() == 0


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("delete from prompt", "only"),
        ("select 1; drop table prompt", "one statement"),
        ("select * from nowhere", "no such table"),
    ],
)
def test_sql_that_may_not_run_is_answered_in_words(
    open_page: Open, served: Served, sql: str, said: str
) -> None:
    page = open_page("/query").page
    page.locator("textarea").fill(sql)
    ask(page)
    assert said in page.locator("main").inner_text().lower()
    assert page.locator("textarea").input_value().strip() == sql


def test_control_is_for_those_who_know_the_token(open_page: Open, served: Served) -> None:
    page = open_page(f"/runs/{RUN}").page
    assert page.locator("main form[action$='/control']").count() == 0
    page.goto(f"{served.address}/login")
    for token in ("wrong", TOKEN):
        assert page.context.cookies() == []
        page.locator("main input[name=token]").fill(token)
        with page.expect_navigation():
            page.keyboard.press("Enter")
    [cookie] = page.context.cookies()
    assert cookie["httpOnly"] and cookie["sameSite"] == "Strict"
    assert TOKEN not in cookie["value"]


def test_a_page_works_without_scripts(open_page: Open, served: Served) -> None:
    page = open_page(f"/runs/{RUN}/prompts", java_script_enabled=False).page
    page.locator("main input[name=q]").fill("why")
    with page.expect_navigation():
        page.locator("main input[name=q]").press("Enter")
    assert "q=why" in page.url


def test_a_text_is_downloaded_as_csv_that_a_spreadsheet_only_shows(
    open_page: Open, served: Served, tmp_path: Path
) -> None:
    page = open_page("/query").page
    page.locator("textarea").fill("select text from prompt where text like '=HYPER%'")
    ask(page)
    with page.expect_download() as download:
        page.get_by_text("CSV").first.click()
    download.value.save_as(tmp_path / "result.csv")
    assert "'=HYPERLINK" in (tmp_path / "result.csv").read_text()
