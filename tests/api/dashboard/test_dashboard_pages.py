"""What stands on the pages, read as text."""

import re
import time
from collections.abc import Callable

import httpx2
from dashboard_yard import Yard, metric, prepare, progress

from modelyard.domain.jobs.lifecycle import Outcome
from modelyard.domain.workers.hosts import exclude, include
from modelyard.domain.workers.repository import report_worker
from modelyard.domain.workers.tables import Worker

LogIn = Callable[[str], httpx2.Client]


class TestShowJob:
    def test_a_waiting_job_says_why_and_what_to_do(self, yard: Yard, log_in: LogIn) -> None:
        job = yard.submit(prepare("waits"), accelerator="gpu")
        text = log_in("read").get(f"/jobs/{job.id}").text
        assert "No online worker serves the queue" in text
        assert "modelyard worker --stages prepare" in text

    def test_a_failed_job_shows_message_attempt_and_log(self, yard: Yard, log_in: LogIn) -> None:
        job = yard.submit(prepare("fails"))
        attempt = yard.begin(job)
        yard.report(job, attempt, {"type": "figures", "values": {"rows_train": 1234567}}, log="Traceback: line 9\n")
        yard.end(job, attempt, Outcome.BAD_DATA, "rows.jsonl, line 9: not JSON")
        text = log_in("read").get(f"/jobs/{job.id}").text
        assert "rows.jsonl, line 9: not JSON" in text
        assert "What to do" in text
        assert "Traceback: line 9" in text
        assert "1\u202f234\u202f567" in text

    def test_its_events_in_words_the_newest_here_and_all_on_a_page(self, yard: Yard, log_in: LogIn) -> None:
        job = yard.submit(prepare("eventful"))
        attempt = yard.begin(job)
        saved = [{"type": "checkpoint", "step": step} for step in range(1, 13)]
        yard.report(job, attempt, {"type": "phase", "name": "load"}, *saved)
        yard.end(job, attempt, Outcome.PREEMPTED)
        client = log_in("read")
        shown = client.get(f"/jobs/{job.id}").text.partition('aria-label="Events"')[2].partition("</section>")[0]
        assert shown.index("<b>queued again</b>") < shown.index("a checkpoint at step 12") < shown.index("a checkpoint at step 6")
        assert "a checkpoint at step 5" not in shown
        assert "<b>phase</b>" not in shown
        assert f"/jobs/{job.id}/events" in shown
        first = client.get(f"/jobs/{job.id}/events?limit=10").text
        after = re.search(r"\?after=(\d+)", first)
        assert after
        rest = client.get(f"/jobs/{job.id}/events?limit=10&after={after[1]}").text
        whole = [first.count(f"at step {step}<") + rest.count(f"at step {step}<") for step in range(1, 13)]
        assert whole == [1] * 12
        assert "<b>submitted</b>" in rest
        assert "after=" not in rest
        assert client.get("/jobs/job_none/events").status_code == 404
        log_in("write").post(f"/jobs/{job.id}/cancel")

    def test_an_unknown_job_is_a_page(self, log_in: LogIn) -> None:
        answer = log_in("read").get("/jobs/job_none")
        assert answer.status_code == 404
        assert "There is no job job_none" in answer.text


class TestListJobs:
    def test_filters_and_pages(self, yard: Yard, log_in: LogIn) -> None:
        jobs = [yard.submit(prepare(f"listed-{number}")) for number in range(3)]
        client = log_in("read")
        first = client.get("/jobs?state=queued&kind=prepare&limit=2").text
        assert jobs[2].id in first
        assert jobs[0].id not in first
        assert f"/jobs?state=queued&amp;kind=prepare&amp;after={jobs[1].id}".removeprefix("/jobs") in first
        rest = client.get(f"/jobs?state=queued&kind=prepare&limit=2&after={jobs[1].id}").text
        assert jobs[0].id in rest
        assert jobs[0].id not in client.get("/jobs?kind=deploy").text
        for job in jobs:
            log_in("write").post(f"/jobs/{job.id}/cancel")


class TestGetCurves:
    def test_nothing_new_is_no_content(self, yard: Yard, log_in: LogIn) -> None:
        job = yard.submit(prepare("quiet"))
        attempt = yard.begin(job)
        yard.report(job, attempt, *[metric(step, loss=1.0) for step in range(5)])
        client = log_in("read")
        answer = client.get(f"/jobs/{job.id}/curves").json()
        assert answer["charts"][0]["data"] == [[0, 1, 2, 3, 4], [1.0] * 5]
        assert client.get(f"/jobs/{job.id}/curves?after={answer['newest']}").status_code == 204
        yard.end(job, attempt)
        assert client.get(f"/jobs/{job.id}/curves?after={answer['newest']}").json()["is_finished"]


class TestShowPipeline:
    def test_steps_stand_in_the_graph_and_cancel_ends_all(self, yard: Yard, log_in: LogIn) -> None:
        pretrain = {"kind": "pretrain", "name": "bard", "dataset": "${corpus}"}
        pipeline = yard.submit_pipeline("bard", {"corpus": prepare("bard"), "model": pretrain})
        client = log_in("write")
        text = client.get(f"/pipelines/{pipeline.id}").text
        graph = text[text.index('<svg class="graph"') :]
        assert graph.count("<path d=") == 1
        assert "pretrain · held" in text
        assert "prepare · queued" in text
        assert client.post(f"/pipelines/{pipeline.id}/cancel").status_code == 303
        assert "pretrain · cancelled" in client.get(f"/pipelines/{pipeline.id}").text
        assert pipeline.id in client.get("/pipelines").text


class TestShowRegistry:
    def test_a_dataset_shows_rows_files_and_versions(self, yard: Yard, log_in: LogIn) -> None:
        first = yard.upload("poems", [{"text": "first edition"}])
        second = yard.upload("poems", [{"text": "second edition"}])
        text = log_in("read").get(f"/datasets/{second.id}").text
        assert "second edition" in text
        assert f"/datasets/{first.id}" in text
        assert "data.jsonl" in text
        assert first.id in log_in("read").get("/datasets?name=poems").text

    def test_a_model_names_its_ancestors(self, yard: Yard, log_in: LogIn) -> None:
        dataset = yard.upload("ancestor", [{"text": "x"}])
        source = {"kind": "prepare", "name": "descendant", "schema": "text", "sources": [{"dataset": dataset.id}]}
        job = yard.submit(source)  # an upload is no dataset to train on
        model = yard.add_model("descendant", "report", job)
        text = log_in("read").get(f"/models/{model.id}").text
        tree = text[text.index('<ul class="tree">') :].partition("</section>")[0]
        links = [f"/models/{model.id}", f"/jobs/{job.id}", f"/datasets/{dataset.id}"]
        assert [tree.count(link) for link in links] == [1, 1, 1]
        assert tree.index(links[0]) < tree.index(links[1]) < tree.index(links[2])
        log_in("write").post(f"/jobs/{job.id}/cancel")

    def test_files_stay_inside_the_artifact(self, yard: Yard, log_in: LogIn) -> None:
        dataset = yard.upload("inside", [{"text": "x"}])
        client = log_in("read")
        assert client.get(f"/datasets/{dataset.id}/files/manifest.json").status_code == 200
        assert client.get(f"/datasets/{dataset.id}/files/..%2F..%2F..%2Fmodelyard.db").status_code == 404

    def test_an_upload_that_is_huge_is_read_only_at_its_start(self, yard: Yard, log_in: LogIn) -> None:
        dataset = yard.upload("huge", [{"text": f"row {number} " + "x" * 40_000} for number in range(30)])
        text = log_in("read").get(f"/datasets/{dataset.id}").text
        assert "row 5 " in text
        assert "row 6 " not in text

    def test_a_row_larger_than_the_start_is_not_shown(self, yard: Yard, log_in: LogIn) -> None:
        dataset = yard.upload("one-huge-row", [{"text": "x" * 300_000}])
        answer = log_in("read").get(f"/datasets/{dataset.id}")
        assert answer.status_code == 200
        assert "First rows" not in answer.text


class TestShowOverview:
    def test_it_works_without_redis_and_says_so(self, log_in: LogIn) -> None:
        text = log_in("read").get("/").text
        assert "Redis does not answer" in text
        assert "No worker is online" in text

    def test_it_shows_who_serves_what(self, yard: Yard, log_in: LogIn) -> None:
        slots = {"cpu": {"total": 4, "free": 3}, "gpu": {"total": 0, "free": 0}}
        now = time.time()
        worker = Worker(
            id="night@yard", host="yard", pid=1, stages=["monitor"], slots=slots, queues=["monitor"], state="online",
            started_at=now, heartbeat_at=now,
        )  # fmt: skip
        with yard.platform.database.write() as session:
            report_worker(session, worker)
        text = " ".join(log_in("read").get("/").text.split())
        assert "cpu 3 of 4" in text
        assert "gpu" not in text[text.index('id="worker-night@yard"') :].partition("</tr>")[0]
        assert '<span class="faint">night@yard</span>' in text[text.index('id="queue-monitor"') :].partition("</tr>")[0]
        with yard.platform.database.write() as session:
            session.get_one(Worker, worker.id).drain_requested = True
            exclude(session, "yard", 60, "New <driver>")
        row = log_in("read").get("/").text.partition('id="worker-night@yard"')[2].partition("</tr>")[0]
        assert ">drained<" in row
        assert "New &lt;driver&gt;" in row
        with yard.platform.database.write() as session:
            include(session, "yard")
            session.delete(session.get_one(Worker, worker.id))


class TestShowUsage:
    def test_says_what_came_of_the_time(self, yard: Yard, log_in: LogIn) -> None:
        job = yard.submit(prepare("used"))
        attempt = yard.begin(job)
        yard.report(job, attempt, progress(0.5))
        yard.end(job, attempt, Outcome.BAD_DATA, "no rows")
        client = log_in("read")
        text = client.get("/usage?group_by=job&days=1").text
        assert f"/jobs/{job.id}" in text
        assert 'class="failed"' in text
        assert "Where its time went" in client.get(f"/jobs/{job.id}").text
        assert "prepare" in client.get("/usage").text
        assert client.get("/usage?days=0").status_code == 422
