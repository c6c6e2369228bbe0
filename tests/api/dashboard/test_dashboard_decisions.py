"""What people decide on the pages: approve, reject, retry."""

from collections.abc import Callable

import httpx2
from dashboard_yard import Yard, prepare

from modelyard.domain.jobs.queues import Shape
from modelyard.domain.jobs.submission import JobRequest, submit
from modelyard.domain.jobs.tables import Job
from modelyard.domain.specs import parse_spec

LogIn = Callable[[str], httpx2.Client]


def waiting(yard: Yard, name: str) -> Job:
    """A job that waits for approval."""
    request = JobRequest(parse_spec(prepare(name)), shape=Shape(), needs_approval=True)
    with yard.platform.database.write() as session:
        return submit(session, yard.project_id, request)


class TestApprove:
    def test_the_page_has_buttons_for_those_who_may(self, yard: Yard, log_in: LogIn) -> None:
        path = f"/jobs/{waiting(yard, 'asks').id}"
        button = f'action="{path}/approve"'
        assert button not in log_in("read").get(path).text
        client = log_in("write")
        assert button in client.get(path).text
        assert client.post(f"{path}/approve").headers["location"] == path
        text = client.get(path).text
        assert "approved by" in text
        assert button not in text
        client.post(f"{path}/cancel")


class TestReject:
    def test_wants_a_reason(self, yard: Yard, log_in: LogIn) -> None:
        path = f"/jobs/{waiting(yard, 'refused').id}"
        client = log_in("write")
        assert client.post(f"{path}/reject").status_code == 422
        assert client.post(f"{path}/reject", data={"reason": "too dear"}).status_code == 303
        assert "too dear" in client.get(path).text


class TestRetry:
    def test_a_job_shows_the_one_that_tries_again(self, yard: Yard, log_in: LogIn) -> None:
        path = f"/jobs/{yard.submit(prepare('again')).id}"
        client, button = log_in("write"), f'action="{path}/retry"'
        assert button not in client.get(path).text
        client.post(f"{path}/cancel")
        assert button in client.get(path).text
        newer = client.post(f"{path}/retry").headers["location"]
        assert f'href="{newer}"' in client.get(path).text
        assert button not in client.get(path).text
        assert f'href="{path}"' in client.get(newer).text
        client.post(f"{newer}/cancel")

    def test_a_pipeline_shows_each_step_once_and_what_was_replaced_apart(self, yard: Yard, log_in: LogIn) -> None:
        pretrain = {"kind": "pretrain", "name": "bard", "dataset": "${corpus}"}
        pipeline = yard.submit_pipeline("bard", {"corpus": prepare("bard"), "model": pretrain})
        path, client = f"/pipelines/{pipeline.id}", log_in("write")
        client.post(f"{path}/cancel")
        assert client.post(f"{path}/retry").headers["location"] == path
        text = client.get(path).text
        graph, _, replaced = text[text.index('<svg class="graph"') :].partition("Tried again")
        assert (graph.count("<path d="), graph.count('class="name"')) == (1, 2)
        assert ("prepare · queued" in graph, "pretrain · held" in graph) == (True, True)
        assert replaced.count('id="step-job_') == 2
        assert client.get("/pipelines").text.count(f'id="{pipeline.id}"') == 1
        client.post(f"{path}/cancel")
