"""Registered things: versions by content, references, lineage."""

import threading

import pytest
from factories import Factory, write
from sqlmodel import select

from modelyard.domain.errors import NotFound
from modelyard.domain.registry import repository
from modelyard.domain.registry.lineage import trace
from modelyard.domain.registry.repository import Made, register
from modelyard.domain.registry.tables import ID_PREFIXES, TABLES, Dataset


def find(factory: Factory, reference: str, project: str = "default") -> int | None:
    """The version of the dataset a reference means."""
    with factory.database.read() as session:
        found = repository.find(session, factory.project(project), "dataset", reference)
        return found.version if found else None


class TestRegister:
    def test_versions_follow_content(self, factory: Factory) -> None:
        first, second = factory.registered(content="a"), factory.registered(content="b")
        assert (first.version, second.version) == (1, 2)
        assert factory.registered(content="a").id == first.id
        assert factory.registered(name="other", content="a").version == 1
        assert factory.registered(project="theirs", content="b").version == 1

    def test_two_at_once_get_two_versions(self, factory: Factory) -> None:
        project_id, failures = factory.project_id, []

        def make(content: str) -> None:
            try:
                write(factory.database, register, project_id, Made("dataset", "corpus", "key", content * 64, 1))
            except Exception as error:
                failures.append(error)

        threads = [threading.Thread(target=make, args=(content,)) for content in "abcdefgh"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        assert failures == []
        assert sorted(row.version for row in factory.find(select(Dataset))) == [1, 2, 3, 4, 5, 6, 7, 8]

    def test_every_type_has_table_and_prefix(self) -> None:
        assert set(TABLES) == set(ID_PREFIXES)
        assert len(set(ID_PREFIXES.values())) == len(ID_PREFIXES)


class TestFind:
    @pytest.mark.parametrize(
        ("reference", "version"),
        [
            ("corpus", 2),
            ("corpus@1", 1),
            ("corpus@2", 2),
            ("corpus@3", None),
            ("corpus@x", None),
            ("corpus@-1", None),
            ("", None),
        ],
    )
    def test_by_name(self, factory: Factory, reference: str, version: int | None) -> None:
        factory.registered(content="a")
        factory.registered(content="b")
        assert find(factory, reference) == version

    def test_by_id(self, factory: Factory) -> None:
        factory.registered(content="a")
        assert find(factory, factory.registered(content="b").id) == 2

    def test_a_name_that_begins_like_an_id(self, factory: Factory) -> None:
        factory.registered(name="ds_mine")
        assert find(factory, "ds_mine") == 1

    def test_only_in_its_project(self, factory: Factory) -> None:
        row = factory.registered()
        assert find(factory, "corpus", "theirs") is None
        assert find(factory, row.id, "theirs") is None
        with factory.database.read() as session, pytest.raises(NotFound, match="no dataset 'corpus'"):
            repository.get_or_raise(session, factory.project("theirs"), "dataset", "corpus")


class TestList:
    def test_pages_newest_first(self, factory: Factory) -> None:
        rows = [factory.registered(content=content) for content in "abcde"]
        with factory.database.read() as session:
            first = repository.list_registered(session, factory.project_id, "dataset", limit=2)
            rest = repository.list_registered(session, factory.project_id, "dataset", after=first[-1].id, limit=9)
        assert [row.id for row in [*first, *rest]] == [row.id for row in reversed(rows)]

    def test_names(self, factory: Factory) -> None:
        for name, content in [("b", "a"), ("a", "a"), ("a", "b")]:
            factory.registered(name=name, content=content)
        with factory.database.read() as session:
            assert repository.list_names(session, factory.project_id, "dataset") == ["a", "b"]


class TestTrace:
    def test_walks_back_to_what_came_from_outside(self, factory: Factory) -> None:
        corpus = factory.registered()
        job = factory.job("pretrain")
        model = factory.registered("model", "bard", job_id=job.id)
        with factory.database.read() as session:
            tree = trace(session, "model", model.id)
        assert (tree["id"], tree["version"]) == (model.id, 1)
        assert (tree["job"]["id"], tree["job"]["kind"], tree["job"]["attempt"]) == (job.id, "pretrain", 1)
        parent = tree["job"]["inputs"]["dataset"]
        assert parent == {"type": "dataset", "id": corpus.id, "name": "corpus", "version": 1}

    def test_what_was_deleted_is_named_missing(self, factory: Factory) -> None:
        corpus = factory.registered()
        model = factory.registered("model", "bard", job_id=factory.job("pretrain").id)
        with factory.database.write() as session:
            session.delete(session.get(Dataset, corpus.id))
        with factory.database.read() as session:
            tree = trace(session, "model", model.id)
        assert tree["job"]["inputs"]["dataset"] == {"type": "dataset", "id": corpus.id, "missing": True}

    def test_has_an_end(self, factory: Factory) -> None:
        model = factory.registered("model", "base")
        job = factory.job("deploy")
        factory.update(job, inputs={"model": {"type": "model", "id": model.id}})
        with factory.database.write() as session:
            row = session.get(TABLES["model"], model.id)
            assert row is not None
            row.job_id = job.id  # its own ancestor, which no way leads to
        with factory.database.read() as session:
            assert trace(session, "model", model.id, depth=3)["job"]["inputs"]["model"]["job"]
