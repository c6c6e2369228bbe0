"""What a person sees, in a real browser. The `visit` also fails on any console error and on any request to another host."""

import re

from dashboard_visit import Visit
from dashboard_yard import ATTACK, Yard, metric, prepare, progress
from playwright.sync_api import Locator, expect

expect.set_options(timeout=15_000)


def curve_colours(canvas: Locator) -> int:
    """How many different colours a drawing has: an empty one has only those of its axes."""
    return canvas.evaluate(
        """(canvas) => {
            const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
            const seen = new Set();
            for (let at = 0; at < data.length; at += 4)
                if (data[at + 3] > 250) seen.add(`${data[at]},${data[at + 1]},${data[at + 2]}`);
            return ["29,111,209", "210,87,26"].filter((colour) => seen.has(colour)).length;
        }"""
    )


class TestWatchJob:
    def test_a_job_appears_runs_and_finishes_without_a_reload(self, visit: Visit, yard: Yard) -> None:
        visit.page.goto("/")
        visit.page.evaluate("window.sameDocument = true")
        job = yard.submit(prepare("live"), name="live-job")
        row = visit.page.locator(f"#row-{job.id}")
        attempt = yard.begin(job)
        yard.report(job, attempt, progress(0.45, "reading the folio"))
        expect(row).to_contain_text("reading the folio")
        expect(visit.page.locator(f"#running-{job.id} progress")).to_have_attribute("value", "0.4500")
        yard.end(job, attempt)
        expect(row).to_contain_text("succeeded")
        expect(visit.page.locator(f"#running-{job.id}")).to_have_count(0)
        assert visit.page.evaluate("window.sameDocument")

    def test_curves_are_drawn_and_grow(self, visit: Visit, yard: Yard) -> None:
        job = yard.submit(prepare("curves"))
        attempt = yard.begin(job)
        points = [metric(step, loss=4 / step, learning_rate=1e-3) for step in range(1, 40)]
        yard.report(job, attempt, *points, metric(20, validation_loss=0.9), metric(39, validation_loss=0.5))
        visit.page.goto(f"/jobs/{job.id}")
        charts = visit.page.locator(".charts figure")
        expect(charts).to_have_count(2)
        loss = charts.filter(has=visit.page.get_by_role("heading", name="loss", exact=True))
        expect(loss.locator(".u-series .u-label")).to_have_text(["step", "train", "validation"])
        assert curve_colours(loss.locator("canvas")) == 2
        expect(loss.locator("figcaption")).to_contain_text("validation 0.5 at step 39")
        yard.report(job, attempt, metric(60, validation_loss=0.25))
        expect(loss.locator("figcaption")).to_contain_text("validation 0.25 at step 60")
        yard.end(job, attempt)
        expect(visit.page.get_by_role("heading", level=1)).to_contain_text("succeeded")

    def test_events_come_in_words_newest_first(self, visit: Visit, yard: Yard) -> None:
        job = yard.submit(prepare("events"))
        attempt = yard.begin(job)
        visit.open_with_clock(f"/jobs/{job.id}")
        events = visit.page.get_by_role("region", name="Events").get_by_role("listitem")
        expect(events).to_have_count(2)
        told = {"type": "rolled_back", "from_step": 9, "to_step": 6, "why": f"the loss is nan {ATTACK}"}
        yard.report(job, attempt, told, {"type": "phase", "name": "step"})
        visit.look_again()
        expect(events).to_have_count(3)
        expect(events.first).to_contain_text("attempt 1 rolled back the loss is nan")
        expect(events.first).to_contain_text(f"{ATTACK} at step 9: back at step 6")
        yard.report(job, attempt, *[{"type": "checkpoint", "step": step} for step in range(20)])
        visit.page.set_viewport_size({"width": 390, "height": 800})
        visit.look_again()
        expect(events).to_have_count(8)
        visit.page.get_by_role("link", name="All events").click()
        expect(visit.page.get_by_role("heading", level=1)).to_contain_text("Events")
        expect(events).to_have_count(23)
        assert visit.page.locator("main img, main script").count() == 0
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= 390
        yard.end(job, attempt)

    def test_the_log_follows_its_end_and_a_finished_page_rests(self, visit: Visit, yard: Yard) -> None:
        job = yard.submit(prepare("log"))
        attempt = yard.begin(job)
        yard.report(job, attempt, log="".join(f"line {number}\n" for number in range(100)))
        visit.open_with_clock(f"/jobs/{job.id}")
        visit.page.get_by_role("log").scroll_into_view_if_needed()
        expect(visit.page.get_by_text("line 99", exact=True)).to_be_in_viewport()
        yard.report(job, attempt, log="the very last line\n")
        visit.look_again()
        expect(visit.page.get_by_text("the very last line")).to_be_in_viewport()
        yard.end(job, attempt)
        visit.look_again()
        expect(visit.page.get_by_role("heading", level=1)).to_contain_text("succeeded")
        expect(visit.page.locator("#live")).not_to_have_attribute("hx-get", re.compile(".*"))

    def test_a_hidden_tab_asks_nothing_and_a_shown_one_at_once(self, visit: Visit) -> None:
        show = "hidden => { Object.defineProperty(document, 'hidden', {value: hidden, configurable: true}); }"
        visit.open_with_clock("/jobs")
        with visit.page.expect_request("**/jobs"):
            visit.look_again()
        visit.page.evaluate(show, True)
        asked = len(visit.paths)
        visit.page.clock.run_for(20_000)
        assert len(visit.paths) == asked
        visit.page.evaluate(show, False)
        with visit.page.expect_request("**/jobs"):
            visit.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


class TestActOnJob:
    def test_cancel_asks_first_and_stays_open_while_the_page_lives(self, visit: Visit, yard: Yard) -> None:
        job = yard.submit(prepare("cancelled"))
        visit.open_with_clock(f"/jobs/{job.id}")
        visit.page.locator(".confirm > summary").click()
        with visit.page.expect_response(lambda response: "hx-request" in response.request.headers) as looked:
            visit.look_again()
        assert looked.value.ok
        button = visit.page.get_by_role("button", name="Cancel this job")
        expect(button).to_be_visible()
        button.click()
        expect(visit.page.get_by_role("heading", level=1)).to_contain_text("cancelled")


class TestLogIn:
    def test_out_and_in_again_where_one_wanted_to_go(self, visit: Visit, yard: Yard) -> None:
        visit.page.goto("/")
        visit.page.get_by_role("button", name="Log out").click()
        visit.page.wait_for_url("**/login")
        assert visit.page.context.cookies() == []
        visit.page.goto("/jobs")
        visit.page.get_by_label("API key").fill(yard.keys["write"])
        visit.page.get_by_role("button", name="Log in").click()
        visit.page.wait_for_url("**/jobs")
        assert yard.keys["write"] not in visit.page.content()
        [cookie] = visit.page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")

    def test_a_session_that_ended_shows_the_login_page(self, visit: Visit) -> None:
        visit.open_with_clock("/jobs")
        visit.page.context.clear_cookies()
        visit.look_again()
        visit.page.wait_for_url("**/login?after=/jobs")
        # The browser itself notes the answer 401 that told the page so.
        assert len(visit.complaints) == 1
        assert "401" in visit.complaints.pop()


class TestShowForeignText:
    """Names, logs, rows and answers come from outside. They are text, whatever is in them."""

    def test_in_a_job(self, visit: Visit, yard: Yard) -> None:
        job = yard.submit(prepare("attack"), name=f"job {ATTACK}")
        attempt = yard.begin(job)
        points = [metric(step, **{f"loss {ATTACK}": 1.0}) for step in range(3)]
        yard.report(job, attempt, progress(0.5, f"message {ATTACK}"), *points, log=f"log {ATTACK}\n")
        visit.page.goto(f"/jobs/{job.id}")
        expect(visit.page.get_by_role("heading", level=1)).to_contain_text(f"job {ATTACK}")
        expect(visit.page.get_by_role("log")).to_contain_text(f"log {ATTACK}")
        expect(visit.page.locator("figure h2")).to_contain_text(ATTACK)
        assert visit.page.locator("main img, main script").count() == 0
        visit.page.goto("/")
        expect(visit.page.locator(f"#running-{job.id}")).to_contain_text(ATTACK)
        yard.end(job, attempt)

    def test_in_a_dataset(self, visit: Visit, yard: Yard) -> None:
        dataset = yard.upload("hostile-rows", [{"text": f"row {ATTACK}", ATTACK: 1}])
        visit.page.goto(f"/datasets/{dataset.id}")
        expect(visit.page.locator("table.rows")).to_contain_text(f"row {ATTACK}")
        expect(visit.page.locator("table.rows th").last).to_have_text(ATTACK)
        assert visit.page.locator("main img, main script").count() == 0

    def test_in_a_report_nothing_runs(self, visit: Visit, yard: Yard) -> None:
        model = yard.add_model("hostile-report", f"<h1>Report</h1><script>alert(3)</script>{ATTACK}")
        visit.page.goto(f"/models/{model.id}")
        visit.page.get_by_role("link", name="Open the report").click()
        expect(visit.page.get_by_role("heading", name="Report")).to_be_visible()
        # The browser says that it refused the scripts and the image; that is the point here.
        assert len(visit.complaints) >= 2
        assert all("Content Security Policy" in said or "sandboxed" in said for said in visit.complaints)
        visit.complaints.clear()

    def test_in_answers_of_a_deployment(self, visit: Visit, yard: Yard) -> None:
        model = yard.add_model("talker", "report")
        deployment = yard.deploy("talker", model, [0.2 + number / 100 for number in range(20)])
        visit.page.goto(f"/deployments/{deployment.id}")
        expect(visit.page.locator("table.rows")).to_contain_text(f"Question 19 {ATTACK}")
        expect(visit.page.locator(".charts canvas")).to_have_count(1)
        assert visit.page.locator("main img, main script").count() == 0


class TestReadAnywhere:
    def test_no_page_is_wider_than_a_phone(self, visit: Visit, yard: Yard) -> None:
        job = yard.submit(prepare("narrow"))
        visit.page.set_viewport_size({"width": 390, "height": 800})
        for path in ("/", "/jobs", f"/jobs/{job.id}", "/pipelines", "/datasets", "/models", "/deployments"):
            visit.page.goto(path)
            assert visit.page.evaluate("document.documentElement.scrollWidth") <= 390, path

    def test_every_button_and_field_has_a_name(self, visit: Visit, yard: Yard) -> None:
        job = yard.submit(prepare("named"))
        for path in ("/jobs", f"/jobs/{job.id}"):
            visit.page.goto(path)
            for control in visit.page.locator("button:visible, select:visible, input:visible, summary:visible").all():
                assert re.match(r"- \S+.* \"?\S+|- \S+: \S+|- text: \S+", control.aria_snapshot()), control.aria_snapshot()
