"""What a model card says about where the model comes from."""

from pathlib import Path

from modelyard.domain.specs.finetuning import FinetuneSpec
from modelyard.kit.storage import build_manifest
from modelyard.workers.model_card import MODEL_CARD, describe_origin, write_model_card
from modelyard.workers.recipe import Input, Run

SPEC = FinetuneSpec(name="f", dataset="d", model="m")


def test_names_job_inputs_digests_and_lineage(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{}\n")
    digest = build_manifest(tmp_path)["sha256"]
    inputs = {
        "model": Input(tmp_path / "nowhere", "model", "model_1", "tiny", 3),
        "dataset": Input(tmp_path, "dataset", "dataset_1", "chats", 2),
    }
    write_model_card(tmp_path, "f", "A model.", describe_origin(Run(SPEC, tmp_path, inputs, job_id="job_1")))
    card = (tmp_path / MODEL_CARD).read_text()
    for fact in (
        "| job | job_1 |", "| model | tiny@3 |", "| model lineage | /v1/models/model_1/lineage |", "| dataset | chats@2 |",
        f"| dataset sha256 | {digest} |", "| dataset lineage | /v1/datasets/dataset_1/lineage |",
    ):  # fmt: skip
        assert fact in card
    assert "model sha256" not in card


def test_a_recipe_started_by_hand_has_folders_only(tmp_path: Path) -> None:
    run = Run(SPEC, tmp_path, {"dataset": Input(tmp_path / "chats")})
    assert describe_origin(run) == {"Origin": {"dataset": "chats"}}
