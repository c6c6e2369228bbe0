"""Pages of sweeps."""

from collections.abc import Callable, Iterator

import httpx2
import pytest
from dashboard_visit import Visit
from dashboard_yard import Yard, running_yard
from factories import Factory
from playwright.sync_api import expect
from sweep_runs import BODY, conduct_to_its_end, make_sweep

from modelyard.domain.sweeps.tables import Sweep
from modelyard.scheduler.sweeps import conduct_sweeps

LogIn = Callable[[str], httpx2.Client]


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    """A platform of its own: the trials of a sweep are run by hand, whatever waits, so nothing else may wait here."""
    with running_yard(tmp_path_factory.mktemp("yard")) as yard:
        yield yard


@pytest.fixture
def factory(yard: Yard) -> Factory:
    """Makes rows in the platform that is looked at."""
    return Factory(yard.platform.database)


@pytest.fixture
def sweep(factory: Factory) -> Sweep:
    """A sweep that has come to its end."""
    return conduct_to_its_end(factory, make_sweep(factory, name="looked-at", trials=6))


class TestShowSweep:
    def test_trials_rungs_and_the_best(self, sweep: Sweep, log_in: LogIn) -> None:
        client = log_in("read")
        assert f"/sweeps/{sweep.id}" in client.get("/sweeps").text
        text = client.get(f"/sweeps/{sweep.id}").text
        assert f'<a href="#trial-{sweep.best}">trial {sweep.best}</a>' in text
        assert "at step 20" in text
        assert sweep.promoted is not None
        assert f'<a href="/models/{sweep.promoted["id"]}">best@{sweep.promoted["version"]}</a>' in text
        assert "/cancel" not in text
        item = client.get(f"/sweeps/{sweep.id}").text.partition(f'id="trial-{sweep.best}"')[2].partition("</tr>")[0]
        assert "<b>best</b>" in item
        page = client.get(item.partition('<a href="')[2].partition('"')[0]).text
        assert f"trial {sweep.best} of" in page

    def test_charts_of_values_and_parameters(self, sweep: Sweep, log_in: LogIn) -> None:
        path = f"/sweeps/{sweep.id}/charts"
        answer = log_in("read").get(path).json()
        best, rate = answer["charts"]
        assert (best["labels"], best["data"][0], best["x_label"]) == (["value", "best so far"], [0, 1, 2, 3, 4, 5], "trial")
        assert best["data"][2] == [min(best["data"][1][: end + 1]) for end in range(6)]
        assert (rate["title"], rate["is_log"], rate["is_scatter"]) == ("validation loss over learning rate", True, True)
        assert rate["data"][0] == sorted(rate["data"][0])
        assert answer["is_finished"]

    def test_writers_pause_resume_and_cancel(self, factory: Factory, log_in: LogIn) -> None:
        sweep = make_sweep(factory, name="steered")
        writer, reader = log_in("write"), log_in("read")
        path = f"/sweeps/{sweep.id}"
        assert "Pause</button>" not in reader.get(path).text
        for wish, shown in (("pause", "Resume</button>"), ("resume", "Pause</button>"), ("cancel", "cancelling</span>")):
            assert writer.post(f"{path}/{wish}").headers["location"] == path
            assert shown in writer.get(path).text
        assert reader.post(f"{path}/cancel").status_code == 403
        conduct_sweeps(factory.database)
        assert "cancelled</span>" in reader.get(path).text


class TestInBrowser:
    def test_charts_are_drawn(self, sweep: Sweep, visit: Visit) -> None:
        visit.page.goto(f"/sweeps/{sweep.id}")
        figures = visit.page.locator(".charts figure")
        expect(figures).to_have_count(1 + len(BODY["parameters"]))
        expect(figures.first.locator("figcaption")).to_contain_text("after 6 trials")
        expect(figures.last.locator("canvas")).to_have_count(1)
        expect(visit.page.locator(f"#trial-{sweep.best}")).to_contain_text("best")
