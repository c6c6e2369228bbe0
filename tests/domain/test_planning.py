"""What a training run needs, from plain data alone."""

from dataclasses import replace
from typing import Any

import pytest

from modelyard.domain.planning.activations import count_kept, count_made
from modelyard.domain.planning.costs import reckon_cost
from modelyard.domain.planning.disk import predict_disk
from modelyard.domain.planning.durations import Duration, PastRun, predict_duration, predict_training
from modelyard.domain.planning.history import median_step
from modelyard.domain.planning.machines import Machine, Need, fits_somewhere, judge_machines
from modelyard.domain.planning.memory import predict_memory
from modelyard.domain.planning.pieces import say_bytes
from modelyard.domain.planning.reckoning import need_of
from modelyard.domain.planning.setups import Adapter, Setup
from modelyard.domain.planning.shapes import Shape
from modelyard.domain.planning.tokens import Row, Sample, predict_tokens
from modelyard.domain.planning.work import count_step_operations
from modelyard.domain.scheduling.quotas import Quotas, Use

SHAPE = Shape(
    vocabulary_size=1000, hidden_size=64, intermediate_size=128, layers=2, heads=4, key_value_heads=2, head_size=16,
    context_length=64, ties_embeddings=True,
)  # fmt: skip
PARAMETERS = 1000 * 64 + 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128 + 2 * 64) + 64
SETUP = Setup(SHAPE, micro_batch_size=2, sequence_length=64, steps=10)
WIDE = replace(SHAPE, hidden_size=4096, intermediate_size=8192)
WORDY = replace(SHAPE, vocabulary_size=100_000)
LORA = Adapter(4, ("q_proj",))
ADAPTER = 2 * 4 * (64 + 64)
GIB = 2**30
RUN = PastRun(seconds=110, steps=10, step_seconds=10, operations=100.0)


def pieces(**changes: Any) -> dict[str, int]:
    """Bytes by name, of the accelerator's memory."""
    return {piece.name: piece.bytes for piece in predict_memory(replace(SETUP, **changes), "pretrain").pieces}


class TestPredictMemory:
    @pytest.mark.parametrize(
        ("changes", "weights", "gradients", "optimizer"),
        [
            ({}, 4 * PARAMETERS, 4 * PARAMETERS, 8 * PARAMETERS),
            ({"zero_stage": 1, "ranks": 2}, 4 * PARAMETERS, 6 * PARAMETERS, 6 * PARAMETERS),
            ({"precision": "bf16", "zero_stage": 1, "ranks": 4}, 2 * PARAMETERS, 5 * PARAMETERS // 2, 3 * PARAMETERS),
            ({"zero_stage": 2, "ranks": 2}, 4 * PARAMETERS, 6 * PARAMETERS, 6 * PARAMETERS),
            ({"zero_stage": 3, "ranks": 4}, PARAMETERS, 5 * PARAMETERS, 3 * PARAMETERS),
            ({"adapter": LORA}, 4 * (PARAMETERS + ADAPTER), 4 * ADAPTER, 8 * ADAPTER),
        ],
    )
    def test_what_is_shared(self, changes: dict[str, Any], weights: int, gradients: int, optimizer: int) -> None:
        found = pieces(**changes)
        assert found["weights"] == weights
        assert (found["gradients"], found["optimizer"]) == (gradients, optimizer)

    def test_activations_grow_with_the_batch_and_shrink_when_recomputed(self) -> None:
        assert pieces(micro_batch_size=4)["activations"] == 2 * pieces()["activations"]
        assert pieces(checkpoints_activations=True)["activations"] < pieces()["activations"]
        assert count_kept(replace(SETUP, adapter=LORA)) < count_kept(SETUP) < count_made(SETUP)

    def test_ranks_that_share_sequences_share_activations_too(self) -> None:
        alone, shared = pieces(accelerator="gpu"), pieces(accelerator="gpu", ranks=2, sequence_parallel_size=2)
        assert shared["activations"] * 2 == alone["activations"]
        # What is traded leaves holes on a CPU: 4 copies each way of 64 + 32 + 32 + 64 numbers.
        assert count_made(replace(SETUP, sequence_parallel_size=2)) == count_made(SETUP) + 8 * 192
        assert shared["logits"] * 2 == alone["logits"]
        assert shared["weights"] == alone["weights"]
        sharing = replace(SETUP, ranks=4, sequence_parallel_size=2)
        assert (sharing.tokens_per_step, sharing.global_batch_size) == (2 * 64 * 2, 2 * 2)

    def test_ranks_that_share_matrices_have_parts_of_the_layers_and_whole_embeddings(self) -> None:
        cut = replace(SETUP, accelerator="gpu", ranks=4, tensor_parallel_size=2)
        layers = SETUP.parameters - SHAPE.vocabulary_size * SHAPE.hidden_size * (1 if SHAPE.ties_embeddings else 2)
        norms = (2 * SHAPE.layers + 1) * SHAPE.hidden_size
        assert SETUP.parameters - cut.of_rank().parameters == (layers - norms) / 2
        assert cut.parameters == SETUP.parameters
        assert cut.of_rank().ranks == 2
        assert (cut.tokens_per_step, cut.global_batch_size) == (2 * 64 * 2, 2 * 2)
        alone, shared = pieces(accelerator="gpu"), pieces(accelerator="gpu", ranks=2, tensor_parallel_size=2)
        assert all(shared[name] < alone[name] for name in ("weights", "gradients", "optimizer", "activations"))
        assert shared["logits"] == alone["logits"]
        assert alone["weights"] / 2 < shared["weights"]
        assert count_step_operations(cut) < count_step_operations(SETUP)
        assert predict_disk(cut).checkpoint.bytes > predict_disk(SETUP).checkpoint.bytes, "embeddings are saved twice"

    def test_the_vocabulary_is_most_of_a_small_model(self) -> None:
        found = pieces(shape=replace(SHAPE, vocabulary_size=100_000))
        assert found["logits"] == 3 * 128 * 100_000 * 4

    @pytest.mark.parametrize(
        ("changes", "copied"),
        [
            ({}, 12 * PARAMETERS),
            ({"zero_stage": 2, "ranks": 2}, 10 * PARAMETERS),
            ({"saves_between_steps": False}, 0),
            ({"saves_between_steps": False, "keeps_first_state": True}, 4 * PARAMETERS),
            ({"saves_between_steps": False, "keeps_first_state": True, "zero_stage": 2, "ranks": 2}, 2 * PARAMETERS),
        ],
    )
    def test_checkpoints_are_copied_between_steps(self, changes: dict[str, Any], copied: int) -> None:
        many = {"micro_batch_size": 256}  # activations a single copy at the end finds room in
        assert pieces(**many, **changes).get("checkpoint copy", 0) == copied

    def test_a_gpu_holds_neither_the_libraries_nor_what_is_offloaded(self) -> None:
        memory = predict_memory(replace(SETUP, accelerator="gpu", offload="optimizer", precision="bf16"), "pretrain")
        assert {piece.name for piece in memory.pieces}.isdisjoint({"libraries", "optimizer"})
        assert [piece.name for piece in memory.offloaded] == ["libraries", "optimizer", "checkpoint copy"]


class TestFullestMoment:
    """What is held before and after the steps counts where it is more."""

    @pytest.mark.parametrize(
        ("kind", "changes", "moment"),
        [
            ("finetune", {"adapter": LORA}, "learning"),
            ("finetune", {"adapter": LORA, "shape": WIDE, "micro_batch_size": 1, "learned_share": 0.01}, "merging"),
            ("grpo", {"answers": 4, "new_tokens": 16, "adapter": LORA, "layout": "whole"}, "learning"),
            ("grpo", {"answers": 64, "new_tokens": 16, "adapter": LORA, "shape": WORDY, "learned_share": 0.001}, "answering"),
        ],
    )
    def test_is_named(self, kind: str, changes: dict[str, Any], moment: str) -> None:
        found = predict_memory(replace(SETUP, **changes), kind)
        assert found.here.name == moment
        assert found.bytes == sum(piece.bytes for piece in found.pieces)

    def test_answers_are_kept_with_their_keys_and_values(self) -> None:
        setup = replace(SETUP, answers=64, new_tokens=16, adapter=LORA, shape=WORDY, learned_share=0.001)
        sizes = {piece.name: piece.bytes for piece in predict_memory(setup, "grpo").pieces}
        assert sizes["keys and values"] == 128 * 64 * (2 * 2 + 1) * 32 * 4
        assert sizes["next tokens"] == 128 * 100_000 * 4 * 4

    def test_pre_training_makes_the_whole_model_on_every_rank(self) -> None:
        shared = replace(SETUP, zero_stage=3, ranks=8, shape=WIDE, accelerator="gpu", precision="bf16")
        host = predict_memory(shared, "pretrain").host
        assert host is not None
        assert (host.name, host.pieces[-1].bytes) == ("starting", 4 * shared.parameters)
        read = predict_memory(replace(shared, ranks=1), "finetune").host
        assert read is not None
        assert read.name == "learning"


class TestDisk:
    @pytest.mark.parametrize(
        ("changes", "checkpoint", "outputs"),
        [
            ({}, 12 * PARAMETERS, 4 * PARAMETERS),
            ({"zero_stage": 1}, 16 * PARAMETERS, 4 * PARAMETERS),
            ({"precision": "bf16"}, 14 * PARAMETERS, 2 * PARAMETERS),
            ({"adapter": LORA}, 12 * ADAPTER, 4 * (PARAMETERS + ADAPTER)),
        ],
    )
    def test_sizes(self, changes: dict[str, Any], checkpoint: int, outputs: int) -> None:
        disk = predict_disk(replace(SETUP, **changes, kept_checkpoints=2))
        assert (disk.checkpoint.bytes, disk.outputs.bytes) == (checkpoint, outputs)
        assert disk.total_bytes == 3 * checkpoint + outputs


class TestMachines:
    @pytest.mark.parametrize(
        ("machines", "need", "expected"),
        [
            ([], Need(host_bytes=1), None),
            ([Machine("a", 4 * GIB)], Need(host_bytes=4 * GIB), True),
            ([Machine("a", 4 * GIB)], Need(host_bytes=4 * GIB + 1), False),
            ([Machine("a", 4 * GIB), Machine("b", 8 * GIB)], Need(host_bytes=5 * GIB), True),
            ([Machine("a", 4 * GIB), Machine("b")], Need(host_bytes=5 * GIB), None),
            ([Machine("a", 4 * GIB, 80 * GIB)], Need(40 * GIB, 1 * GIB), True),
            ([Machine("a", 4 * GIB, 80 * GIB)], Need(81 * GIB, 1 * GIB), False),
            ([Machine("a", 4 * GIB, 80 * GIB)], Need(40 * GIB, 5 * GIB), False),
            ([Machine("a", 4 * GIB, None)], Need(40 * GIB, 1 * GIB), None),
        ],
    )
    def test_fits(self, machines: list[Machine], need: Need, expected: bool | None) -> None:
        assert fits_somewhere(judge_machines(need, machines)) is expected

    def test_ranks_of_one_machine_share_its_memory(self) -> None:
        pair = replace(SETUP, ranks=4, ranks_per_host=2)
        each = predict_memory(pair, "pretrain")
        assert need_of(pair, each) == Need(host_bytes=2 * each.bytes)
        on_gpus = replace(pair, accelerator="gpu", precision="bf16", offload="optimizer", zero_stage=2)
        each = predict_memory(on_gpus, "pretrain")
        assert need_of(on_gpus, each) == Need(each.bytes, 2 * each.offloaded_bytes)


class TestTokens:
    def test_packed_rows_are_all_used(self) -> None:
        found = predict_tokens(SETUP, Sample([Row(10), Row(30)], of=100))
        assert (found.per_step, found.total, found.dataset, found.epochs) == (128, 1280, 2000, 0.64)
        assert (found.truncated_share, found.dropped_share, found.basis) == (0.0, 0.0, "from 2 of 100 rows")

    @pytest.mark.parametrize(("layout", "epochs"), [("padded", 2 * 10 / 4), ("packed", 2 * 64 * 10 / (10 + 3 * 64))])
    def test_rows_kept_whole_are_cut_off_and_left_out(self, layout: Any, epochs: float) -> None:
        rows = [Row(10, 5, 5), Row(64, 5, 59), Row(65, 5, 59), Row(80, 64, 0), Row(80, 63, 1)]
        found = predict_tokens(replace(SETUP, layout=layout), Sample(rows, of=5))
        assert (found.truncated_share, found.longest, found.basis) == (0.4, 80, "from all rows")
        assert found.dropped_share == pytest.approx(0.2)
        assert found.epochs == pytest.approx(epochs)
        assert found.learned_share == (5 + 59 + 59 + 1) / (10 + 3 * 64)

    def test_a_pair_is_two_sequences_as_long_as_they_are(self) -> None:
        pairs = [Row(10, 5, 5, Row(20, 5, 15)), Row(80, 5, 59, Row(30, 5, 25)), Row(9, 9, 0, Row(12, 9, 3))]
        found = predict_tokens(replace(SETUP, layout="whole", answers=2, steps=5), Sample(pairs, of=3))
        assert (found.dataset, found.longest, found.epochs) == (161, 80, 2 * 5 / 2)
        assert (found.truncated_share, found.dropped_share) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
        assert found.per_step == (30 + 64 + 30) / 2 * 2
        assert found.largest_pass == 30 + 94
        assert found.learned_share == (5 + 15 + 59 + 25) / (30 + 94)

    def test_a_problem_is_answered_by_a_group(self) -> None:
        setup = replace(SETUP, layout="whole", answers=4, new_tokens=16, micro_batch_size=1, steps=2)
        found = predict_tokens(setup, Sample([Row(8, 8, 16), Row(60, 60, 0)], of=2))
        assert (found.dataset, found.dropped_share, found.truncated_share) == (68, 0.5, 0.0)
        assert (found.per_step, found.largest_pass, found.learned_share) == (4 * 24, 4 * 24, 16 / 24)

    @pytest.mark.parametrize(("steps", "largest"), [(1, 4), (1000, 8)])
    def test_the_largest_of_many_passes_is_all_long_rows(self, steps: int, largest: int) -> None:
        rows = [Row(1, 0, 1)] * 30 + [Row(4, 0, 4)] * 10
        setup = replace(SETUP, layout="whole", micro_batch_size=2, steps=steps, answers=1)
        found = predict_tokens(setup, Sample(rows, of=40)).largest_pass
        assert found is not None
        assert found <= largest if steps == 1 else found == largest

    def test_nobody_knows_before_there_is_a_tokenizer(self) -> None:
        found = predict_tokens(SETUP, None)
        assert (found.total, found.dataset) == (1280, None)
        assert "trains its own tokenizer" in found.basis


class TestDuration:
    @pytest.mark.parametrize(
        ("past", "steps", "operations", "expected"),
        [
            ([RUN], 10, 100.0, (110, 110, 110, 10)),
            ([RUN], 20, 100.0, (210, 210, 210, 10)),
            ([RUN], 10, 200.0, (210, 210, 210, 20)),
            ([RUN, replace(RUN, operations=150.0, step_seconds=1)], 10, 100.0, (110, 110, 110, 10)),
            ([replace(RUN, seconds=each) for each in (110, 120, 130, 140, 150)], 10, 100.0, (130, 120, 140, 10)),
        ],
    )
    def test_scales_with_steps_and_work(
        self, past: list[PastRun], steps: int, operations: float, expected: tuple[float, ...]
    ) -> None:
        found = predict_training(past, "pretrain", steps, operations, "cpu", 1)
        assert (found.expected_seconds, found.low_seconds, found.high_seconds, found.step_seconds) == expected

    @pytest.mark.parametrize(
        "past",
        [
            [],
            [replace(RUN, operations=24.0)],
            [replace(RUN, accelerator="gpu")],
            [replace(RUN, ranks=2)],
            [replace(RUN, step_seconds=None)],
            [replace(RUN, operations=None)],
        ],
    )
    def test_none_rather_than_an_invented_one(self, past: list[PastRun]) -> None:
        found = predict_training(past, "pretrain", 10, 100.0, "cpu", 1)
        assert found.expected_seconds is None
        assert "no past run" in found.basis

    def test_kinds_without_a_formula_take_as_long_as_before(self) -> None:
        found = predict_duration([PastRun(each) for each in (1, 2, 3, 4, 100)], "prepare")
        assert (found.expected_seconds, found.low_seconds, found.high_seconds) == (3, 2, 4)
        assert "5 past runs of prepare" in found.basis
        assert predict_duration([], "prepare").expected_seconds is None

    def test_a_step_is_the_median_between_points(self) -> None:
        assert median_step([(1, 0.0), (2, 1.0), (3, 9.0), (4, 10.0), (6, 12.0)]) == 1.0
        assert median_step([(1, 0.0)]) is None
        assert median_step([(3, 0.0), (3, 1.0)]) is None

    def test_work_follows_tokens_and_method(self) -> None:
        work = count_step_operations(SETUP)
        assert count_step_operations(replace(SETUP, accumulation=3)) == 3 * work
        assert work < count_step_operations(replace(SETUP, checkpoints_activations=True)) < 4 / 3 * work + 1
        assert count_step_operations(replace(SETUP, asks_base=True)) == pytest.approx(4 / 3 * work)
        assert count_step_operations(replace(SETUP, answers=4, new_tokens=8)) == pytest.approx(4 * 4 / 3 * work)
        assert 0.6 * work < count_step_operations(replace(SETUP, adapter=LORA)) < 0.75 * work


class TestCost:
    @pytest.mark.parametrize(
        ("quotas", "used", "seconds", "exceeds"),
        [
            (Quotas(), 0.0, 3600.0, None),
            (Quotas(max_gpu_hours_per_month=3), 1.0, 3600.0, None),
            (Quotas(max_gpu_hours_per_month=2.9), 1.0, 3600.0, "has used 1.00 of its 2.9 slot-hours"),
            (Quotas(max_gpu_hours_per_month=2), 2.1, None, "nobody knows how many the job needs"),
            (Quotas(max_gpus=1), 0.0, 3600.0, "asks for 2 slots"),
        ],
    )
    def test_quotas(self, quotas: Quotas, used: float, seconds: float | None, exceeds: str | None) -> None:
        cost = reckon_cost("team", 2, Duration(seconds, seconds, seconds, ""), quotas, Use(gpu_hours_this_month=used))
        assert cost.expected_slot_hours == (2.0 if seconds else None)
        assert (cost.exceeds is None) if exceeds is None else exceeds in str(cost.exceeds)


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (3 * 2**30, "3.0 GiB"), (2**41, "2.0 TiB")]
)
def test_bytes_in_words(count: int, text: str) -> None:
    assert say_bytes(count) == text
