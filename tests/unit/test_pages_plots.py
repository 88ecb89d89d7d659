"""Plots on the pages: figures in words and tables, SVG that browsers keep, light and dark."""

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from starlette.testclient import TestClient

from selfreward.config import load_settings
from selfreward.report.charts import Chart, Kind, Panel, Series, Unit
from selfreward.store import Store
from selfreward.web.app import create_app
from selfreward.web.site import Site


@pytest.fixture(scope="module")
def pages(done_run: Path) -> Iterator[TestClient]:
    settings = load_settings(done_run)
    store = Store(settings.database.url, done_run)
    site = Site(store=store, settings=settings, directory=done_run)
    yield TestClient(create_app(site), base_url="http://localhost")
    store.close()


def a_chart(values: tuple[float | None, ...], low: tuple[float | None, ...] = ()) -> Chart:
    high = tuple(None if value is None else value + 0.1 for value in values) if low else ()
    series = Series(label="accuracy", values=values, low=low, high=high)
    return Chart(
        name="a",
        title="Accuracy",
        kind=Kind.POINTS,
        places=tuple(f"M_{place}" for place in range(len(values))),
        panels=(Panel(series=(series,), unit=Unit.SHARE),),
        place_name="checkpoint",
    )


def addresses(pages: TestClient) -> list[str]:
    found = re.findall(r'<img src="([^"]+)"', pages.get("/runs/main").text)
    return [address.replace("&amp;", "&") for address in found]


def test_a_run_has_its_plots_each_with_words_and_a_table(pages: TestClient) -> None:
    page = pages.get("/runs/main").text
    names = re.findall(r"/plots/([a-z-]+)\.svg\?theme=light", page)
    assert {"judge-accuracy", "scores", "yield", "length", "training", "throughput"} <= set(names)
    assert page.count("<figure") == page.count("<table>", page.index("<figure")) == len(names)
    for alt in re.findall(r'alt="([^"]*)"', page):
        assert re.search(r"\d", alt), alt


def test_every_plot_is_svg_with_text_in_both_themes(pages: TestClient) -> None:
    found = addresses(pages)
    assert found
    for address in found:
        light, dark = pages.get(address), pages.get(address.replace("light", "dark"))
        assert light.status_code == dark.status_code == 200
        assert light.headers["content-type"].startswith("image/svg+xml")
        assert "<text" in light.text and "<script" not in light.text
        ElementTree.fromstring(light.text)
        assert light.content != dark.content


def test_a_plot_that_a_browser_has_is_not_sent_again(pages: TestClient) -> None:
    first = pages.get("/runs/main/plots/scores.svg")
    again = pages.get("/runs/main/plots/scores.svg", headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304
    assert not again.content
    dark = pages.get(
        "/runs/main/plots/scores.svg?theme=dark", headers={"If-None-Match": first.headers["etag"]}
    )
    assert dark.status_code == 200


def test_a_page_does_not_load_what_draws(done_run: Path) -> None:
    import subprocess
    import sys

    script = (
        "import sys; from pathlib import Path; from starlette.testclient import TestClient\n"
        "from selfreward.config import load_settings; from selfreward.store import Store\n"
        "from selfreward.web.app import create_app; from selfreward.web.site import Site\n"
        "d = Path(sys.argv[1]); s = load_settings(d); store = Store(s.database.url, d)\n"
        "app = create_app(Site(store=store, settings=s, directory=d))\n"
        "assert TestClient(app, base_url='http://localhost').get('/runs/main').status_code == 200\n"
        "print([m for m in ('matplotlib', 'pandas', 'datasets', 'torch', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(done_run)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_one_iteration_can_be_plotted_alone(pages: TestClient) -> None:
    both, one = pages.get("/runs/main/plots/training.svg"), pages.get("/runs/main/plots/training.svg?t=1")
    assert "iteration 2" in both.text
    assert "iteration 2" not in one.text


def test_a_chart_says_each_figure_with_its_interval_and_what_is_missing() -> None:
    chart = a_chart((0.5, None, 0.612), low=(0.45, None, 0.55))
    assert chart.alt == "Accuracy. accuracy: M_0 50.0% [45.0–60.0], M_2 61.2% [55.0–71.2]."
    assert chart.rows[1] == ("M_1", "–")


def test_of_many_figures_the_words_name_the_first_the_last_and_the_extremes() -> None:
    values = tuple(float(place) / 100 for place in range(40))
    alt = a_chart(values).alt
    assert "M_0 0.0%" in alt and "M_39 39.0%" in alt and "M_20" not in alt


def test_a_chart_without_figures_is_empty() -> None:
    assert a_chart((None, None)).empty
    assert not a_chart((0.0,)).empty


def test_charts_of_other_figures_have_other_digests() -> None:
    assert a_chart((0.5,)).digest == a_chart((0.5,)).digest != a_chart((0.6,)).digest
