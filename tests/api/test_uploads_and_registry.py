"""Datasets over HTTP: good files, malformed ones, too large ones; and what is registered."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from running_api import Api
from sqlmodel import select

from modelyard.domain.registry.tables import Dataset


def parquet() -> bytes:
    """Two rows."""
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a", "b"]}), file)
    return file.getvalue()


GOOD = {"a.jsonl": b'{"text": "x"}\n{"text": "y"}\n', "a.csv": b"text\nx\ny\n", "a.txt": b"x\ny\n", "a.parquet": parquet()}
BAD = {
    "a.jsonl": b'{"text": 1}\nno\n',
    "a.csv": b"a,b\n1\n",
    "a.parquet": b"no",
    "a.txt": b"\xff",
    "empty.jsonl": b"",
    "empty.csv": b"",
    "empty.txt": b"",
    "empty.parquet": b"",
    "a.docx": b"x",
    "noname": b"x",
}


def upload(api: Api, filename: str, content: bytes, name: str = "corpus") -> Any:
    """Upload a file."""
    return api.client.post("/v1/datasets", data={"name": name}, files={"file": (filename, content)})


def left_behind(api: Api) -> list[str]:
    """Files of uploads that are anywhere below the data directory."""
    return [str(path) for path in api.settings.data_dir.rglob("*") if path.is_file()]


class TestUpload:
    @pytest.mark.parametrize("filename", GOOD)
    def test_good_files(self, api: Api, filename: str) -> None:
        response = upload(api, filename, GOOD[filename])
        assert response.status_code == 201, response.text
        body = response.json()
        assert (body["object"], body["name"], body["version"], body["details"]["rows"]) == ("dataset", "corpus", 1, 2)
        assert body["details"]["columns"] == ["text"]
        assert body["details"]["filename"] == filename
        assert api.client.get(response.headers["location"]).json() == body
        stored = api.client.get(f"/v1/datasets/corpus/files/data.{filename.split('.')[1]}")
        if not filename.endswith("parquet"):
            assert stored.content == GOOD[filename]

    @pytest.mark.parametrize("filename", BAD)
    def test_malformed_files_leave_nothing(self, api: Api, check_problem: Any, filename: str) -> None:
        problem = check_problem(upload(api, filename, BAD[filename]), 422, "malformed_dataset", "file")
        assert problem["detail"].startswith(f"{filename}")
        assert api.factory.find(select(Dataset)) == []
        assert left_behind(api) == []

    def test_the_same_content_is_the_same_version(self, api_on_both: Api) -> None:
        first = upload(api_on_both, "a.txt", b"x\n").json()
        assert upload(api_on_both, "renamed.txt", b"x\n").json()["id"] == first["id"]
        assert upload(api_on_both, "a.txt", b"y\n").json()["version"] == 2
        assert len([path for path in left_behind(api_on_both) if path.endswith("data.txt")]) == 2

    @pytest.mark.parametrize("name", ["", "Bad Name", "../up", "x" * 64])
    def test_impossible_names(self, api: Api, check_problem: Any, name: str) -> None:
        check_problem(upload(api, "a.txt", b"x\n", name), 422, "invalid_request", "name")

    def test_needs_a_file(self, api: Api, check_problem: Any) -> None:
        check_problem(api.client.post("/v1/datasets", data={"name": "x"}), 422, "invalid_request", "file")


class TestBodyLimit:
    """The applications of the tests take one megabyte."""

    def test_declared(self, api: Api, check_problem: Any) -> None:
        check_problem(api.client.post("/v1/jobs", content=b" " * 2**21), 413, "body_too_large")
        problem = check_problem(upload(api, "a.txt", b"x" * 2**21), 413, "body_too_large")
        assert "MODELYARD_MAX_BODY_MEGABYTES" in problem["detail"]
        assert left_behind(api) == []

    def test_in_chunks_of_unknown_number(self, api: Api, check_problem: Any) -> None:
        def chunks() -> Iterator[bytes]:
            for _ in range(40):
                yield b" " * 2**16

        response = api.client.post("/v1/jobs", content=chunks(), headers={"Content-Type": "application/json"})
        check_problem(response, 413, "body_too_large")

    def test_up_to_the_limit(self, api: Api) -> None:
        assert upload(api, "a.txt", b"x" * (2**20 - 1000)).status_code == 201


class TestRegistry:
    def test_lists_versions_by_name(self, api: Api) -> None:
        for content in "abc":
            api.factory.registered(content=content)
        api.factory.registered(name="other")
        page = api.client.get("/v1/datasets?name=corpus&limit=2").json()
        assert [row["version"] for row in page["data"]] == [3, 2]
        rest = api.client.get(f"/v1/datasets?name=corpus&after={page['next']}").json()
        assert ([row["version"] for row in rest["data"]], rest["has_more"]) == ([1], False)

    def test_references(self, api_on_both: Api, check_problem: Any) -> None:
        row = api_on_both.factory.registered("model", "base")
        for reference in ("base", "base@1", row.id):
            assert api_on_both.client.get(f"/v1/models/{reference}").json()["id"] == row.id
        for reference in ("base@2", "base@x", "nothing", "mdl_1", "a%00b", "base@99999999999999999999"):
            check_problem(api_on_both.client.get(f"/v1/models/{reference}"), 404, "not_found")

    def test_lineage(self, api: Api) -> None:
        corpus = api.factory.registered()
        job = api.factory.job("pretrain")
        api.factory.registered("model", "bard", job_id=job.id)
        tree = api.client.get("/v1/models/bard/lineage").json()
        assert tree["job"]["inputs"]["dataset"]["id"] == corpus.id

    @pytest.mark.parametrize(
        "name", ["nothing", "..%2f..%2fmodelyard.db", "%2fetc%2fhostname", "%00", "x" * 300, "data.txt/below", ""]
    )
    def test_files_that_are_none(self, api: Api, check_problem: Any, name: str) -> None:
        upload(api, "a.txt", b"x\n")
        response = api.client.get(f"/v1/datasets/corpus/files/{name}")
        assert response.status_code == 404, response.text
        assert response.json()["code"] in {"no_such_file", "no_such_route"}

    def test_a_large_file_is_not_read(self, api: Api, tmp_path: Path, check_problem: Any) -> None:
        row = api.factory.registered("model", "base")
        (tmp_path / "model").mkdir()
        with (tmp_path / "model" / "model.safetensors").open("wb") as file:
            file.truncate(9 * 2**20)
        api.app.state.platform.store.put(tmp_path / "model", row.artifact_key)
        answer = api.client.get("/v1/models/base/files/model.safetensors")
        assert "9.0 MiB" in check_problem(answer, 413, "file_too_large", "name")["detail"]
        assert "model.safetensors" in api.client.get("/v1/models/base/files/manifest.json").json()["files"]

    def test_a_file_may_do_nothing_in_a_browser(self, api: Api) -> None:
        upload(api, "a.txt", b"<script>alert(1)</script>\n")
        response = api.client.get("/v1/datasets/corpus/files/data.txt")
        assert response.headers["content-type"].startswith("text/plain")
        assert response.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in response.headers["content-security-policy"]
