"""Query parameters nobody knows."""

from typing import Any

import pytest
from running_api import Api


class TestUnknownParameters:
    @pytest.mark.parametrize(
        ("path", "field", "way_out"),
        [
            ("/v1/jobs?states=running", "query.states", "did you mean 'state'?"),
            ("/v1/jobs?limit=5&owner=me", "query.owner", "there are "),
            ("/v1/usage?per=job", "query.per", "group_by"),
            ("/v1/queues?project=other", "query.project", "this route takes none"),
        ],
    )
    def test_are_refused_with_those_there_are(self, api: Api, check_problem: Any, path: str, field: str, way_out: str) -> None:
        answer = api.client.get(path)
        check_problem(answer, 422, "unknown_parameter", field)
        assert way_out in answer.json()["detail"]

    def test_those_of_a_page_are_known(self, api: Api) -> None:
        assert api.client.get("/v1/jobs?limit=5&state=running").status_code == 200

    def test_a_stranger_is_told_nothing(self, api: Api) -> None:
        assert api.client.get("/v1/jobs?nope=1", headers={"authorization": ""}).status_code == 401
