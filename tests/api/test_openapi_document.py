"""The document that describes the API is true, and the module that serves it is light."""

import subprocess
import sys
from typing import Any

import jsonschema
import openai
import pytest
from openapi_spec_validator import validate
from running_api import Api

HEAVY = (
    "torch",
    "transformers",
    "datasets",
    "deepspeed",
    "celery.worker",
    "celery.bin",
    "pandas",
    "pyarrow",
    "s3fs",
    "optuna",
)

IMPORT = """
import sys, time
started = time.perf_counter()
import modelyard.api.app
print(time.perf_counter() - started)
print([name for name in sys.argv[1:] if name in sys.modules])
"""


@pytest.fixture
def document(api: Api) -> dict[str, Any]:
    """The OpenAPI document."""
    return dict(api.client.get("/openapi.json").json())


class TestOpenApi:
    def test_is_valid(self, document: dict[str, Any]) -> None:
        assert document["openapi"] == "3.2.0"
        validate(document)

    def test_every_json_body_has_an_example_that_validates(self, document: dict[str, Any]) -> None:
        checked = 0
        for path, item in document["paths"].items():
            content = item.get("post", {}).get("requestBody", {}).get("content", {}).get("application/json")
            if content is None:
                continue
            schema = content["schema"]
            if "$ref" in schema:
                schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
            examples = schema.get("examples") or [content.get("example")]
            assert examples, path
            for example in examples:
                assert example, path
                jsonschema.validate(example, {**schema, "components": document["components"]})
            checked += 1
        assert checked >= 5

    def test_every_route_says_what_it_does(self, document: dict[str, Any]) -> None:
        for path, item in document["paths"].items():
            for method, operation in item.items():
                assert operation.get("description") or operation.get("summary"), f"{method} {path}"
                assert path == "/healthz" or operation["security"], f"{method} {path}"

    @pytest.mark.parametrize("path", ["/v1/jobs", "/v1/pipelines", "/v1/schedules", "/v1/sweeps", "/v1/deployments", "/v1/keys"])
    def test_says_how_long_requests_are_remembered(self, document: dict[str, Any], path: str) -> None:
        parameters = {each["name"]: each for each in document["paths"][path]["post"]["parameters"]}
        assert "forgotten after 7 days" in parameters["idempotency-key"]["description"]

    def test_ids_of_operations_are_unique(self, document: dict[str, Any]) -> None:
        ids = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
        assert len(ids) == len(set(ids))

    def test_examples_of_specs_can_be_submitted(self, api: Api, document: dict[str, Any]) -> None:
        api.factory.registered(name="shakespeare")
        for path in ("/v1/jobs", "/v1/pipelines"):
            name = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[
                1
            ]
            for example in document["components"]["schemas"][name]["examples"]:
                assert api.client.post(path, json=example).status_code == 202


class TestImport:
    def test_loads_no_heavy_library(self) -> None:
        done = subprocess.run([sys.executable, "-c", IMPORT, *HEAVY], capture_output=True, text=True, check=True)
        seconds, loaded = done.stdout.splitlines()
        print(f"import modelyard.api.app: {float(seconds):.2f} s")  # noqa: T201 - shown by `pytest -s`
        assert loaded == "[]"


class TestErrors:
    @pytest.mark.parametrize(
        ("method", "path", "status", "code"),
        [("GET", "/v1/nothing", 404, "no_such_route"), ("PUT", "/v1/jobs", 405, "method_not_allowed")],
    )
    def test_no_such_route(self, api: Api, check_problem: Any, method: str, path: str, status: int, code: str) -> None:
        check_problem(api.client.request(method, path), status, code)

    def test_a_database_that_is_away(self, api: Api, check_problem: Any) -> None:
        database = api.settings.data_dir.parent / "test.db"
        database.rename(database.with_suffix(".away"))
        database.with_name("test.db").mkdir()
        api.app.state.platform.database.dispose()
        response = check_problem(api.client.get("/v1/jobs"), 503, "database_unavailable")
        assert "try again" in response["detail"]
        assert api.client.get("/healthz").status_code == 200


class TestOpenAiClient:
    @pytest.fixture
    def client(self, api: Api) -> openai.OpenAI:
        """The official client, over the same in-process connection."""
        return openai.OpenAI(api_key=api.key(), base_url="http://testserver/v1", http_client=api.client, max_retries=0)

    def test_lists_models(self, api: Api, client: openai.OpenAI) -> None:
        rows = [api.factory.registered("model", "base", content=content) for content in "abc"]
        listed = list(client.models.list())
        assert [model.id for model in listed] == [row.id for row in reversed(rows)]
        assert {(model.object, model.owned_by) for model in listed} == {("model", "modelyard")}
        assert client.models.retrieve("base@1").id == rows[0].id

    def test_an_unknown_deployment_is_an_error_object(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.NotFoundError, match="No deployment named 'chat' is ready") as caught:
            client.chat.completions.create(model="chat", messages=[{"role": "user", "content": "Hello"}])
        assert (caught.value.code, caught.value.param, caught.value.type) == ("model_not_found", "model", "model_not_found")


class TestHealth:
    def test_names_what_is_wrong(self, api: Api) -> None:
        body = api.client.get("/v1/health").json()
        assert (body["status"], body["database"], body["workers_online"]) == ("degraded", "ok", 0)
        assert "check MODELYARD_REDIS_URL" in body["broker"]

    def test_queues_though_the_broker_is_away(self, api: Api) -> None:
        api.factory.running()
        api.create()
        body = api.client.get("/v1/queues").json()
        assert body["data"] == [{"name": "prepare", "waiting": 1, "running": 1, "tickets": None, "workers": []}]
        assert "does not answer" in body["broker"]
