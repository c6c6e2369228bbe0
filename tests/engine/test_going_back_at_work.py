"""A training that goes back by itself: the ledger and the list of events say so."""

import pytest

from tests.engine.conftest import CORPUS, TINY, Yard


@pytest.mark.slow
def test_steps_thrown_away_count_as_redone(yard: Yard) -> None:
    yard.start_worker("train", "prepare,pretrain")
    yard.wait_for_state(yard.submit(CORPUS), "succeeded")
    # Nothing is learned, so losses only vary; the first that is higher than the few before counts as a spike.
    restless = {"on_spike": "roll_back", "spike_window": 8, "spike_steps": 1, "spike_score": 0.001, "max_rollbacks": 2}
    spec = {**TINY, "steps": 120, "save_every": 30, "optimizer": {"learning_rate": 1e-12}, "recovery": restless}
    job_id = yard.submit(spec, resources={"slots": 2})
    done = yard.wait_for_state(job_id, "succeeded")
    assert done["figures"]["rollbacks"] == 2
    told = [event["data"] for event in yard.rows(job_id, "events") if event["type"] == "rolled_back"]
    assert [data["rollbacks"] for data in told] == [1, 2]
    (entry,) = yard.client.get(f"/v1/jobs/{job_id}/usage")["data"]
    hours, lost = entry["gpu_hours"], sum(data["lost_until"] - data["lost_from"] for data in told)
    # Work before the first report of a step is starting; all else that was thrown away is redone, on both slots.
    assert 0 < hours["redone"] <= 2 * lost / 3600 + 1e-9
    assert hours["useful"] > 0
    assert hours["total"] == pytest.approx(sum(hours[name] for name in ("starting", "useful", "redone", "idle")))
    assert hours["failed"] == 0
