"""Which checkpoints stay while a job runs."""

from typing import Any

import pytest
from factories import spec_of
from pydantic import ValidationError

from modelyard.domain.jobs.checkpoints import wanted_of
from modelyard.domain.jobs.keeping import Saved, choose_surplus
from modelyard.domain.jobs.tables import Job
from modelyard.domain.specs import KINDS, parse_spec
from modelyard.domain.specs.optimization import CheckpointsSpec

NAN = float("nan")


@pytest.mark.parametrize(
    ("losses", "wanted", "removed"),
    [
        pytest.param([], {}, [], id="none"),
        pytest.param([3.0], {}, [], id="the only one"),
        pytest.param([None, None, None], {}, [2], id="nothing measured: the newest two"),
        pytest.param([3.0, 2.0, 1.0, 4.0], {}, [3], id="the best stays, however old"),
        pytest.param([1.0, 2.0, 3.0, 4.0], {}, [2, 3], id="the best is among the newest"),
        pytest.param([3.0, 3.0, 2.0, 2.0], {}, [3], id="of equals the newer one"),
        pytest.param([5.0, 4.0, NAN, None, 1.0], {}, [2, 3], id="what is not finite is never the best"),
        pytest.param([5.0, 4.0, 3.0, 2.0], {"keep_last": 1, "keep_best": 0}, [1, 2, 3], id="only the newest"),
        pytest.param([5.0, 4.0, 3.0, 2.0], {"keep_last": 1, "keep_best": 2}, [1], id="the newest and the best two"),
        pytest.param([5.0, 4.0, 3.0], {"keep_last": 10}, [], id="more wanted than there are"),
    ],
)
def test_what_is_removed(losses: list[float | None], wanted: dict[str, Any], removed: list[int]) -> None:
    saved = [Saved(str(number), {"validation_loss": loss}) for number, loss in enumerate(losses)]
    assert choose_surplus(saved, CheckpointsSpec(**wanted)) == [str(number) for number in removed]


def test_by_the_training_loss_where_asked() -> None:
    saved = [Saved("new", {"loss": 2.0}), Saved("best", {"loss": 1.0}), Saved("old", {"loss": 3.0, "validation_loss": 0.1})]
    assert choose_surplus(saved, CheckpointsSpec(keep_last=1, metric="loss")) == ["old"]


def test_the_newest_cannot_be_given_up() -> None:
    with pytest.raises(ValidationError, match="keep_last"):
        CheckpointsSpec(keep_last=0)


@pytest.mark.parametrize("kind", [kind for kind, facts in KINDS.items() if facts.can_resume])
def test_every_kind_that_saves_is_asked(kind: str) -> None:
    spec = parse_spec(spec_of(kind, checkpoints={"keep_last": 3, "keep_best": 0, "metric": "loss"})).model_dump(mode="json")
    assert wanted_of(Job(kind=kind, spec=spec)) == CheckpointsSpec(keep_last=3, keep_best=0, metric="loss")
