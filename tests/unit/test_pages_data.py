"""Prompts, checkpoints and SQL in a browser: what is found, what is refused, and that nothing is obeyed."""

import json
import re
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from selfreward.config import load_settings
from selfreward.cookbook import saved_queries
from selfreward.store import Store
from selfreward.web import checkpoints, prompts, query
from selfreward.web.app import create_app
from selfreward.web.site import Site
from tests.conftest import Filled
from tests.filled import FORK, FORMULA, hostile_prompt

HOST = "http://127.0.0.1"


class Page(HTMLParser):
    """What a browser makes of a page: its elements, its links and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def links(self, rel: str = "") -> list[str]:
        """Addresses of links, those of a kind only if it is named."""
        return [
            element["href"]
            for tag, element in self.elements
            if tag == "a" and "href" in element and rel in (element.get("rel", ""), "")
        ]

    def ids(self) -> set[str]:
        """Where an address can point to."""
        return {element["id"] for _, element in self.elements if "id" in element}


@pytest.fixture(scope="module")
def site(done_run: Path) -> Iterator[Site]:
    """The finished run, read by many tests."""
    settings = load_settings(done_run)
    store = Store.open(settings.database.url, done_run)
    yield Site(store=store, settings=settings, directory=done_run)
    store.close()


@pytest.fixture(scope="module")
def client(site: Site) -> Iterator[TestClient]:
    """A browser on it, which does not go where it is sent by itself."""
    with TestClient(create_app(site), base_url=HOST, follow_redirects=False) as browser:
        yield browser


@pytest.fixture
def small(filled: Filled, tmp_path: Path) -> Iterator[TestClient]:
    """A run with twelve prompts, on each database."""
    for number in range(12):
        filled.prompt(f"Explain tide number {number} to a child.", draw=number, accepted=number % 4 != 0)
    own = Site(store=filled.store, settings=filled.settings, directory=tmp_path)
    with TestClient(create_app(own), base_url=HOST) as browser:
        yield browser


def _rows(directory: Path, sql: str) -> list[tuple[int, ...]]:
    with closing(sqlite3.connect(directory / "selfreward.db")) as connection:
        return connection.execute(sql).fetchall()


def _one(directory: Path, sql: str) -> int:
    return _rows(directory, sql)[0][0]


def _shown(page: Page) -> list[int]:
    return [int(found[1]) for link in page.links() if (found := re.match(r"/runs/main/prompts/(\d+)", link))]


# The list


@pytest.mark.parametrize("asked", ["", "t=1", "q=tide", "outcome=accepted", "outcome=rejected&t=1"])
def test_paging_comes_by_every_prompt_once_and_back(
    small: TestClient, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    everything = _shown(Page(small.get(f"/runs/main/prompts?{asked}").text))
    monkeypatch.setattr(prompts, "PAGE", 2)
    seen, address, pages = [], f"/runs/main/prompts?{asked}", []
    while address:
        pages.append(address)
        page = Page(small.get(address).text)
        seen += _shown(page)
        address = next(iter(page.links("next")), "")
    assert seen == everything == sorted(set(seen))
    assert len(pages) == -(-len(everything) // 2)
    back = Page(small.get(pages[-1]).text).links("prev")
    assert _shown(Page(small.get(back[0]).text)) == everything[(len(pages) - 2) * 2 : (len(pages) - 1) * 2]


def test_turning_a_page_keeps_what_was_asked_for(small: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompts, "PAGE", 3)
    page = Page(small.get("/runs/main/prompts?q=tide+child&t=1&outcome=accepted&score_from=").text)
    (link,) = page.links("next")
    assert link.startswith("/runs/main/prompts?q=tide+child&t=1&outcome=accepted&after=")


def test_the_form_holds_what_was_asked_for(client: TestClient) -> None:
    page = Page(client.get("/runs/main/prompts?q=%22x%22&t=1&outcome=paired&margin_to=4.5").text)
    fields = {element["name"]: element.get("value") for tag, element in page.elements if tag == "input"}
    assert (fields["t"], fields["margin_to"]) == ("1", "4.5")
    assert [e["value"] for tag, e in page.elements if tag == "option" and "selected" in e] == [
        "self_instruct",
        "paired",
    ]


def test_margins_scores_and_outcomes_narrow_the_list(client: TestClient, done_run: Path) -> None:
    page = Page(client.get("/runs/main/prompts?t=1&outcome=paired&margin_from=1&score_from=3").text)
    wanted = _rows(
        done_run,
        "SELECT d.prompt_id FROM pair_decision d JOIN iteration i ON i.id = d.iteration_id"
        " JOIN run r ON r.id = i.run_id JOIN preference_pair p"
        " ON p.iteration_id = i.id AND p.prompt_id = d.prompt_id"
        " WHERE r.name = 'main' AND i.t = 1 AND p.margin >= 1 AND d.best_score >= 3 ORDER BY 1",
    )
    assert wanted
    assert _shown(page) == [key for (key,) in wanted]


def test_a_search_without_result_says_what_to_leave_out(client: TestClient) -> None:
    answer = client.get("/runs/main/prompts?q=zzzunheardof&outcome=tie")
    assert answer.status_code == 200
    page = Page(answer.text)
    assert "No prompt is like that" in page.text
    assert "/runs/main/prompts?outcome=tie" in page.links()
    assert "/runs/main/prompts?q=zzzunheardof" in page.links()


def test_beyond_the_last_page_there_is_a_way_back(client: TestClient) -> None:
    page = Page(client.get("/runs/main/prompts?t=1&after=2147483647").text)
    assert "beyond the last" in page.text
    assert "/runs/main/prompts?t=1" in page.links()


def test_seeds_have_a_list_of_their_own(client: TestClient, done_run: Path) -> None:
    shown = _shown(Page(client.get("/runs/main/prompts?source=seed").text))
    assert shown[0] == _one(done_run, "SELECT min(id) FROM prompt WHERE source = 'seed'")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("after=-1", "after"),
        ("after=99999999999999999999", "whole number"),
        ("before=1e3", "before"),
        ("t=two", "iteration: 'two' is not a whole number"),
        ("t=99", "there is no iteration 99"),
        ("score_from=nan", "not a number from 0 to 5"),
        ("margin_to=inf", "not a number from 0 to 5"),
        ("score_from=4&score_to=2", "from 4 to 2 is nothing"),
        ("outcome=glorious", "there is no 'glorious'"),
        ("source=heaven", "there is no 'heaven'"),
        ("q=" + "x" * 401, "at most 400 characters"),
    ],
)
def test_what_cannot_be_looked_for_is_said_on_the_page(client: TestClient, asked: str, said: str) -> None:
    answer = client.get(f"/runs/main/prompts?{asked}")
    assert answer.status_code == 400
    assert said in Page(answer.text).text
    assert "f-q" in Page(answer.text).ids()


def test_no_words_break_the_search(small: TestClient) -> None:
    for words in ('"', "'", "*", "a AND", "NEAR(", "-x", "prompt:text", "\\", "\x00", "\N{FOX FACE}"):
        assert small.get(f"/runs/main/prompts?q={quote(words)}").status_code == 200


# One prompt


def _paired(done_run: Path) -> tuple[int, int, int, int]:
    (row,) = _rows(
        done_run,
        "SELECT p.prompt_id, p.id, p.chosen_id, p.rejected_id FROM preference_pair p"
        " JOIN iteration i ON i.id = p.iteration_id JOIN run r ON r.id = i.run_id"
        " WHERE r.name = 'main' AND i.t = 2 ORDER BY p.id LIMIT 1",
    )
    return row  # type: ignore[return-value]


def test_a_prompt_shows_every_answer_and_every_judgement(client: TestClient, done_run: Path) -> None:
    prompt, pair, _, _ = _paired(done_run)
    answer = client.get(f"/runs/main/prompts/{prompt}")
    page = Page(answer.text)
    wanted = {f"pair-{pair}"}
    for table, name, where in (
        ("candidate", "candidate", f"prompt_id = {prompt}"),
        ("judgement", "judgement", f"candidate_id IN (SELECT id FROM candidate WHERE prompt_id = {prompt})"),
    ):
        found = _rows(done_run, f"SELECT id FROM {table} WHERE {where}")
        assert found
        wanted |= {f"{name}-{key}" for (key,) in found}
    assert wanted <= page.ids()
    for (text,) in _rows(done_run, f"SELECT text FROM candidate WHERE prompt_id = {prompt}"):
        assert str(text).strip() in page.text


def test_chosen_and_rejected_are_told_in_words(client: TestClient, done_run: Path) -> None:
    prompt, _, chosen, rejected = _paired(done_run)
    html = client.get(f"/runs/main/prompts/{prompt}").text
    for key, word in ((chosen, "✓ chosen"), (rejected, "✗ rejected")):
        card = html[html.index(f'id="candidate-{key}"') :]
        assert word in card[: card.index("</header>")]


def test_the_difference_marks_words_of_both(client: TestClient, done_run: Path) -> None:
    prompt, _, _, _ = _paired(done_run)
    tags = [tag for tag, _ in Page(client.get(f"/runs/main/prompts/{prompt}").text).elements]
    assert tags.count("ins") > 1 and tags.count("del") > 1  # one of each is the legend


def test_a_prompt_leads_to_where_it_comes_from(client: TestClient, done_run: Path) -> None:
    prompt, _, _, _ = _paired(done_run)
    links = Page(client.get(f"/runs/main/prompts/{prompt}").text).links()
    shown = _rows(done_run, f"SELECT demonstration_id FROM prompt_demonstration WHERE prompt_id = {prompt}")
    assert shown
    assert {f"/runs/main/prompts/{key}" for (key,) in shown} <= set(links)
    assert {"/runs/main/checkpoints/M_2", "/runs/main/checkpoints/M_3"} <= set(links)


def test_a_prompt_that_a_fork_used_says_so_and_is_there_too(client: TestClient, done_run: Path) -> None:
    prompt = hostile_prompt(done_run)
    page = Page(client.get(f"/runs/main/prompts/{prompt}").text)
    assert f"/runs/{FORK}/iterations/1" in page.links()
    assert client.get(f"/runs/{FORK}/prompts/{prompt}").status_code == 200


def test_links_to_rows_lead_to_their_place_on_the_page(client: TestClient, done_run: Path) -> None:
    _, pair, chosen, _ = _paired(done_run)
    judgement = _one(done_run, f"SELECT max(id) FROM judgement WHERE candidate_id = {chosen}")
    for address, anchor in (
        (f"/candidates/{chosen}", f"candidate-{chosen}"),
        (f"/pairs/{pair}", f"pair-{pair}"),
        (f"/judgements/{judgement}", f"judgement-{judgement}"),
    ):
        answer = client.get(address)
        assert answer.status_code == 303
        place, _, found = answer.headers["location"].partition("#")
        assert found == anchor
        assert anchor in Page(client.get(place).text).ids()


def test_a_judgement_that_is_linked_to_is_open(client: TestClient, done_run: Path) -> None:
    judgement = _one(done_run, "SELECT min(id) FROM judgement")
    place = client.get(f"/judgements/{judgement}").headers["location"].partition("#")[0]
    html = client.get(place).text
    before = html[: html.index(f'id="judgement-{judgement}"')]
    assert before.rindex("<details") == before.rindex('<details class="judgement" open')


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/runs/main/prompts/999999", 404),
        ("/runs/main/prompts/0", 404),
        ("/runs/main/prompts/9223372036854775808", 400),
        ("/runs/main/prompts/" + "9" * 5000, 400),
        ("/runs/main/prompts/first", 400),
        ("/runs/main/prompts/1?t=7", 404),
        ("/runs/nobody/prompts", 404),
        ("/runs/nobody/prompts/1", 404),
        ("/candidates/999999", 404),
        ("/pairs/999999", 404),
        ("/judgements/999999", 404),
        ("/judgements/-1", 400),
        ("/pairs/one", 400),
        ("/runs/main/checkpoints/M_99", 404),
        ("/runs/main/checkpoints/..%2fmodel", 404),
        ("/runs/main/checkpoints/" + "M" * 200, 400),
        ("/runs/main/checkpoints/M_2?against=M_77", 404),
        ("/runs/main/checkpoints/M_2?after=x", 400),
    ],
)
def test_what_is_not_there_is_a_page_that_says_so(client: TestClient, address: str, status: int) -> None:
    answer = client.get(address)
    assert answer.status_code == status
    assert "Traceback" not in answer.text
    assert "<h1>" in answer.text


# Hostile texts


def test_nothing_that_a_model_wrote_is_obeyed(client: TestClient, done_run: Path) -> None:
    prompt = hostile_prompt(done_run)
    held = "SELECT p.text, c.text, j.raw_text FROM prompt p JOIN candidate c ON c.prompt_id = p.id"
    sql = f"{held} JOIN judgement j ON j.candidate_id = c.id WHERE p.id = {prompt}"
    for answer in (
        client.get("/runs/main/prompts?t=1"),
        client.get(
            "/runs/main/prompts?q=" + quote("<script>alert(1)</script>\"'><img src=x onerror=alert(1)>")
        ),
        client.get("/runs/main/prompts?outcome=" + quote('"><script>alert(1)</script>')),
        client.get(f"/runs/main/prompts/{prompt}?judgement=all"),
        client.get(f"/runs/main/prompts/{prompt}?judgement=" + quote('"><b>x')),
        client.post("/query", data={"sql": sql}),
        client.post("/query", data={"sql": "</textarea><script>alert(1)</script>"}),
        client.post("/query", data={"sql": "select 1 as \"<script>alert(1)</script>\", '\u202e' as b"}),
        client.get("/query?saved=" + quote("<script>x</script>")),
    ):
        assert answer.status_code in (200, 400)
        page = Page(answer.text)
        assert not [
            tag for tag, element in page.elements if tag in ("script", "img") and "src" not in element
        ]
        assert not {tag for tag, _ in page.elements} & {"b", "iframe", "object"}
        assert not [name for _, element in page.elements for name in element if name.startswith("on")]
        assert not set("\x1b\x07\x00\u202e\u2066") & set(answer.text)


def test_a_hostile_prompt_is_shown_as_it_is(client: TestClient, done_run: Path) -> None:
    page = Page(client.get(f"/runs/main/prompts/{hostile_prompt(done_run)}").text)
    for said in ("<script>document.title='owned'</script>", "[31mred", "\\x202egnp.exe", FORMULA):
        assert said in page.text


# Checkpoints


def test_a_checkpoint_says_where_it_comes_from_and_what_it_was_trained_on(
    client: TestClient, done_run: Path
) -> None:
    page = Page(client.get("/runs/main/checkpoints/M_2").text)
    digest = _one(done_run, "SELECT digest FROM checkpoint WHERE name = 'M_2' AND run_id = 1")
    pairs = _one(
        done_run,
        "SELECT count(*) FROM preference_pair WHERE excluded IS NULL AND iteration_id ="
        " (SELECT id FROM iteration WHERE run_id = 1 AND t = 1)",
    )
    assert str(digest) in page.text
    assert f"{pairs} pairs" in page.text
    assert {
        "/runs/main/checkpoints/M_1",
        "/runs/main/checkpoints/M_3",
        "/runs/main/prompts?t=1&outcome=paired",
    } <= set(page.links())


def test_a_checkpoint_has_its_figures_with_intervals(client: TestClient) -> None:
    text = Page(client.get("/runs/main/checkpoints/M_2").text).text
    assert "pairwise accuracy" in text
    assert re.search(r"\[[\d.]+–[\d.]+\]", text)


def test_answers_stand_beside_those_of_the_checkpoint_before(
    client: TestClient, done_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "ANSWERS", 4)
    seen, address = [], "/runs/main/checkpoints/M_2"
    while address:
        page = Page(client.get(address).text)
        seen += [key for key in sorted(page.ids()) if re.fullmatch(r"p-\d+", key)]
        address = next(iter(page.links("next")), "").partition("#")[0]
    wanted = _rows(
        done_run,
        "SELECT a.prompt_id FROM answer a JOIN checkpoint c ON c.id = a.checkpoint_id"
        " WHERE c.name = 'M_2' AND c.run_id = 1 ORDER BY 1",
    )
    assert len(wanted) > 4
    assert sorted(seen) == sorted(f"p-{key}" for (key,) in wanted)


def test_another_checkpoint_can_be_put_beside_it(client: TestClient) -> None:
    page = Page(client.get("/runs/main/checkpoints/M_1?against=M_3").text)
    assert ("option", {"selected": ""}) in page.elements
    assert "answered by both" in page.text


def test_the_given_model_was_trained_on_nothing(client: TestClient) -> None:
    assert "it was given" in Page(client.get("/runs/main/checkpoints/M_1").text).text


# SQL


def _ask(client: TestClient, sql: str, **fields: str) -> tuple[int, str]:
    answer = client.post("/query", data={"sql": sql, **fields})
    return answer.status_code, answer.text


def test_every_saved_query_is_listed_and_runs(client: TestClient) -> None:
    links = Page(client.get("/query").text).links()
    assert saved_queries()
    for each in saved_queries():
        assert f"/query?saved={each.name}" in links
        answer = client.get(f"/query?saved={each.name}")
        assert answer.status_code == 200, answer.text
        assert each.title in Page(answer.text).text
        assert client.get(f"/query?saved={each.name}&format=json").json() is not None


def test_a_saved_query_takes_its_parameters(client: TestClient) -> None:
    chosen, told = next(
        (each, one) for each in saved_queries() for one in each.parameters if one.kind == "integer"
    )
    assert client.get(f"/query?saved={chosen.name}&{told.name}=1").status_code == 200
    answer = client.get(f"/query?saved={chosen.name}&{told.name}=one")
    assert answer.status_code == 400
    assert "whole number" in Page(answer.text).text
    assert client.get(f"/query?saved={chosen.name}&unheard_of=1").status_code == 400


def test_own_sql_is_answered_with_links_to_the_rows(small: TestClient) -> None:
    status, html = _ask(
        small, "select 'main' as run, id as prompt_id, NULL as missing from prompt order by id limit 2"
    )
    assert status == 200
    page = Page(html)
    assert "2 rows" in page.text and "NULL" in page.text
    assert len(_shown(page)) == 2


def test_saved_sql_that_was_changed_still_has_its_parameters(client: TestClient) -> None:
    chosen, told = next(
        (each, one) for each in saved_queries() for one in each.parameters if one.kind == "integer"
    )
    fields = {"saved": chosen.name, told.name: "1"}
    status, html = _ask(client, f"select :{told.name} + 41 as answer", **fields)
    assert status == 200
    assert ">42<" in html


WRITING = (
    "delete from prompt",
    "drop table prompt",
    "select 1; delete from prompt",
    "with gone as (delete from prompt returning id) select * from gone",
    "nonsense",
    "select * from no_such_table",
    "select \x00 1",
)


def test_sql_that_writes_or_is_none_is_refused_and_changes_nothing(small: TestClient) -> None:
    for sql in WRITING:
        status, html = _ask(small, sql)
        assert status == 400
        assert "That did not work" in Page(html).text
        assert "Traceback" not in html
    assert ">12<" in _ask(small, "select count(*) as n from prompt")[1]


@pytest.mark.parametrize("sql", ["attach database 'x' as y", "pragma query_only = 0", "vacuum into 'x'"])
def test_sqlite_gives_no_way_around_it(client: TestClient, sql: str) -> None:
    assert _ask(client, sql)[0] == 400


ENDLESS = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n"
MANY = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 10000000) select i from n"


def test_sql_that_runs_for_ever_is_stopped(small: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "TIMEOUT_S", 0.2)
    status, html = _ask(small, ENDLESS)
    assert status == 400
    assert "longer than 0.2 s" in Page(html).text


def test_of_ten_million_rows_the_first_are_shown_and_it_is_said(small: TestClient) -> None:
    status, html = _ask(small, MANY)
    page = Page(html)
    assert status == 200
    assert [tag for tag, _ in page.elements].count("tr") == query.SHOWN_ROWS + 1
    assert "There are more" in page.text


def test_a_file_holds_what_the_page_cuts_and_no_formula(client: TestClient, done_run: Path) -> None:
    sql = f"select text, id from prompt where id = {hostile_prompt(done_run)}"
    answer = client.post("/query", data={"sql": sql, "format": "csv"})
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["content-disposition"] == 'attachment; filename="query.csv"'
    assert f"'{FORMULA}"[:4] in answer.text and '"=HYPER' not in answer.text
    (row,) = json.loads(client.post("/query", data={"sql": sql, "format": "json"}).text)
    assert row["text"].startswith(FORMULA)
    assert client.post("/query", data={"sql": sql, "format": "exe"}).status_code == 400


def test_a_page_of_another_site_cannot_ask(client: TestClient) -> None:
    answer = client.post("/query", data={"sql": "select 1"}, headers={"origin": "http://evil.example"})
    assert answer.status_code == 403


@pytest.mark.parametrize(
    "body", ["sql=" + "x" * 300_000, "&".join(f"a{n}=1" for n in range(99)), "sql=\u00e9"]
)
def test_a_form_that_is_none_is_refused(client: TestClient, body: str) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    assert client.post("/query", content=body.encode(), headers=headers).status_code == 400


def test_heavy_queries_wait_for_their_turn_and_the_pages_do_not(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    going, running = threading.Event(), threading.Semaphore(0)
    fast = query.run_query

    def heavy(*given: object, **named: object) -> object:
        running.release()
        assert going.wait(20)
        return fast(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(query, "run_query", heavy)
    monkeypatch.setattr(query, "WAIT_S", 0.05)
    with TestClient(create_app(site), base_url=HOST) as browser:
        answers: list[int] = []
        asking = [
            threading.Thread(target=lambda: answers.append(_ask(browser, "select 1")[0]))
            for _ in range(query.AT_ONCE)
        ]
        for thread in asking:
            thread.start()
        for _ in asking:
            assert running.acquire(timeout=20)
        refused = browser.post("/query", data={"sql": "select 1"})
        assert refused.status_code == 503
        assert "2 queries are running" in Page(refused.text).text
        assert browser.get("/runs/main/prompts").status_code == 200
        going.set()
        for thread in asking:
            thread.join(20)
        assert answers == [200] * query.AT_ONCE
        assert _ask(browser, "select 1")[0] == 200


def test_a_database_without_answers_has_a_page_for_a_checkpoint_too(small: TestClient) -> None:
    page = Page(small.get("/runs/main/checkpoints/M_1").text)
    assert "no other checkpoint" in page.text and "Nothing yet" in page.text


def test_a_fork_shows_the_pairs_it_drew_itself(client: TestClient, done_run: Path) -> None:
    pair = _one(
        done_run,
        "SELECT min(p.id) FROM preference_pair p JOIN iteration i ON i.id = p.iteration_id"
        f" JOIN run r ON r.id = i.run_id WHERE r.name = '{FORK}'",
    )
    answer = client.get(f"/pairs/{pair}")
    assert answer.headers["location"].startswith(f"/runs/{FORK}/prompts/")
    assert f"pair-{pair}" in Page(client.get(answer.headers["location"].partition("#")[0]).text).ids()


def test_answers_and_judgements_are_shown_from_each_database(filled: Filled, tmp_path: Path) -> None:
    prompt = filled.prompt("Explain tides.")
    filled.candidates(prompt, ["The moon pulls.", ""])
    filled.judgements(1, [4, None, 5])
    own = Site(store=filled.store, settings=filled.settings, directory=tmp_path)
    with TestClient(create_app(own), base_url=HOST) as browser:
        place = browser.get("/judgements/3", follow_redirects=False).headers["location"]
        assert place == f"/runs/main/prompts/{prompt}?judgement=3#judgement-3"
        page = Page(browser.get(place).text)
        assert {"candidate-1", "candidate-2", "judgement-1", "judgement-2", "judgement-3"} <= page.ids()
        assert "4.50" in page.text and "unreadable" in page.text and "(empty)" in page.text
