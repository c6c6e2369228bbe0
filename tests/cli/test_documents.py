"""What `modelyard submit` makes of a file."""

import pytest

from modelyard.cli.documents import parse_submission
from modelyard.cli.errors import WrongUsage


class TestParse:
    def test_pipeline(self) -> None:
        found = parse_submission("name: p\njobs: {a: {spec: {kind: prepare}}}", "file")
        assert (found.type, found.body["jobs"]["a"]["spec"]["kind"]) == ("pipeline", "prepare")

    def test_job_keeps_what_stands_beside_the_spec(self) -> None:
        found = parse_submission('{"spec": {"kind": "prepare", "name": "x"}, "priority": 60}', "file")
        assert (found.type, found.body) == ("job", {"spec": {"kind": "prepare", "name": "x"}, "priority": 60})

    def test_kind_beside_the_spec(self) -> None:
        assert parse_submission("kind: prepare\nspec: {name: x}", "file").body == {"spec": {"kind": "prepare", "name": "x"}}

    def test_bare_spec(self) -> None:
        assert parse_submission("kind: prepare\nname: x", "file").body == {"spec": {"kind": "prepare", "name": "x"}}

    def test_several_jobs(self) -> None:
        found = parse_submission("- {kind: prepare, name: x}\n- {spec: {kind: import}, priority: 60}", "file")
        jobs = [{"spec": {"kind": "prepare", "name": "x"}}, {"spec": {"kind": "import"}, "priority": 60}]
        assert (found.type, found.body) == ("batch", {"jobs": jobs})

    def test_an_entry_that_is_no_job(self) -> None:
        with pytest.raises(WrongUsage, match="file, entry 1 holds str"):
            parse_submission("- {kind: prepare}\n- x", "file")

    def test_two_kinds(self) -> None:
        with pytest.raises(WrongUsage, match=r"'prepare'.*'import'"):
            parse_submission("kind: prepare\nspec: {kind: import}", "file")

    @pytest.mark.parametrize("written", ["2030-01-31T06:00:00+01:00", "2030-01-31", "2030-01-31 06:00:00"])
    def test_times_stay_as_they_are_written(self, written: str) -> None:
        assert parse_submission(f"start_at: {written}\nspec: {{kind: import}}", "file").body["start_at"] == written

    @pytest.mark.parametrize(
        ("written", "what"),
        [
            (".nan", "not JSON compliant"),
            (".inf", "not JSON compliant"),
            ("!!binary aGVsbG8=", "bytes"),
            ("!!set {a, b}", "set"),
            ("!!timestamp 2030-01-31", "date"),
            ("&a [*a]", "Circular"),
            (r'"\ud800"', "surrogates not allowed"),
        ],
    )
    def test_what_json_cannot_say(self, written: str, what: str) -> None:
        with pytest.raises(WrongUsage, match=f"^file holds what JSON has no words for: .*{what}.*; write it as"):
            parse_submission(f"kind: import\nname: {written}", "file")
