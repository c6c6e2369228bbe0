"""Who may see and do what, spoken in plain HTTP."""

from collections.abc import Callable

import httpx2
import pytest
from dashboard_yard import Yard, prepare

from modelyard.domain.jobs.repository import find_job

LogIn = Callable[[str], httpx2.Client]
PAGES = [
    "/",
    "/jobs",
    "/jobs/job_x",
    "/jobs/job_x/curves",
    "/pipelines",
    "/datasets",
    "/models/m/files/report.html",
    "/deployments",
]


def state_of(yard: Yard, job_id: str) -> str:
    with yard.platform.database.read() as session:
        job = find_job(session, job_id)
        assert job is not None
        return job.state


class TestLogIn:
    @pytest.mark.parametrize("path", PAGES)
    def test_no_page_without_a_session(self, yard: Yard, path: str) -> None:
        answer = httpx2.get(f"{yard.url}{path}", trust_env=False)
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/login")

    def test_a_script_without_a_session_is_told_so(self, yard: Yard) -> None:
        assert httpx2.get(f"{yard.url}/jobs", headers={"HX-Request": "true"}, trust_env=False).status_code == 401

    def test_a_wrong_key_is_refused(self, yard: Yard) -> None:
        answer = httpx2.post(f"{yard.url}/login", data={"key": "my_wrong"}, headers={"Origin": yard.url}, trust_env=False)
        assert answer.status_code == 401
        assert "unknown or was revoked" in answer.text
        assert "set-cookie" not in answer.headers

    def test_the_cookie_is_kept_from_scripts_and_other_sites(self, yard: Yard) -> None:
        form = {"key": yard.keys["read"], "after": "/jobs"}
        answer = httpx2.post(f"{yard.url}/login", data=form, headers={"Origin": yard.url}, trust_env=False)
        assert answer.headers["location"] == "/jobs"
        assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(answer.headers["set-cookie"].split("; "))

    def test_over_https_the_cookie_never_travels_in_the_clear(self, yard: Yard) -> None:
        # What a proxy in front, which speaks HTTPS, passes on.
        headers = {"X-Forwarded-Proto": "https", "Origin": yard.url.replace("http:", "https:")}
        answer = httpx2.post(f"{yard.url}/login", data={"key": yard.keys["read"]}, headers=headers, trust_env=False)
        assert "Secure" in answer.headers["set-cookie"].split("; ")

    @pytest.mark.parametrize("after", ["//evil.example", "/\\evil.example", "https://evil.example"])
    def test_the_way_back_never_leads_elsewhere(self, yard: Yard, after: str) -> None:
        form = {"key": yard.keys["read"], "after": after}
        answer = httpx2.post(f"{yard.url}/login", data=form, headers={"Origin": yard.url}, trust_env=False)
        assert answer.headers["location"] == "/"

    def test_the_cookie_opens_pages_and_not_the_api(self, log_in: LogIn) -> None:
        client = log_in("read")
        assert client.get("/jobs").status_code == 200
        assert client.get("/v1/jobs").status_code == 401


class TestRefuseWrites:
    @pytest.mark.parametrize(
        "headers",
        [
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
            {"Sec-Fetch-Site": "none"},
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": ""},
        ],
    )
    def test_from_other_sites(self, yard: Yard, log_in: LogIn, headers: dict[str, str]) -> None:
        job = yard.submit(prepare("csrf"))
        answer = log_in("write").post(f"/jobs/{job.id}/cancel", headers=headers)
        assert answer.status_code == 403
        assert state_of(yard, job.id) == "queued"
        assert log_in("write").post(f"/jobs/{job.id}/cancel").status_code == 303
        assert state_of(yard, job.id) == "cancelled"

    def test_without_the_scope(self, yard: Yard, log_in: LogIn) -> None:
        job = yard.submit(prepare("scope"))
        client = log_in("read")
        assert "Cancel" not in client.get(f"/jobs/{job.id}").text
        answer = client.post(f"/jobs/{job.id}/cancel")
        assert answer.status_code == 403
        assert "scope" in answer.text
        assert state_of(yard, job.id) == "queued"
        log_in("write").post(f"/jobs/{job.id}/cancel")


class TestProtect:
    @pytest.mark.parametrize("path", ["/", "/login", "/jobs/missing"])
    def test_every_page_has_a_strict_policy(self, log_in: LogIn, path: str) -> None:
        headers = log_in("read").get(path).headers
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
