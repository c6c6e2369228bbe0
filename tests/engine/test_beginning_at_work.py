"""A real job begins at another one's checkpoint, on fewer ranks and another ZeRO stage, and learns what that one did."""

import pytest

from tests.engine.conftest import CORPUS, TINY, Yard

STEPS = 12
SHORT = {**TINY, "steps": STEPS, "evaluate_every": STEPS, "save_every": STEPS // 2, "checkpoints": {"keep_last": 2}}


def losses(yard: Yard, job_id: str) -> dict[int, float]:
    points = yard.client.get(f"/v1/jobs/{job_id}/metrics", name="loss", limit=5000)["data"]
    return {point["step"]: point["value"] for point in points}


@pytest.mark.slow
def test_the_second_half_comes_out_like_the_first_time(yard: Yard) -> None:
    yard.start_worker("work", "prepare,pretrain")
    yard.wait_for_state(yard.submit(CORPUS), "succeeded")
    first = yard.submit({**SHORT, "deepspeed": {"zero_stage": 2}}, resources={"slots": 2})
    yard.wait_for_state(first, "succeeded")
    half = next(each for each in yard.rows(first, "checkpoints") if each["step"] == STEPS // 2)

    second = yard.submit({**SHORT, "deepspeed": {"zero_stage": 0}}, resources={"slots": 1}, resume_from=half["id"])
    job = yard.wait_for_state(second, "succeeded")
    assert job["spec"]["global_batch_size"] == 2 * TINY["micro_batch_size"]
    (attempt,) = yard.rows(second, "attempts")
    assert (attempt["resumed_from"], attempt["resumed_from_step"]) == (half["id"], STEPS // 2)
    manifest = yard.client.get(f"/v1/jobs/{second}/manifest")["manifest"]
    assert manifest["begins_at"] == {"checkpoint": half["id"], "job": first, "step": STEPS // 2}
    before, after = losses(yard, first), losses(yard, second)
    assert list(after) == list(range(STEPS // 2 + 1, STEPS + 1))
    # Fewer ranks add gradients up in another order.
    assert after == pytest.approx({step: before[step] for step in after}, rel=1e-4)
