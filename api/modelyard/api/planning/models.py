"""What a model's artifact says of itself, read without loading it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from modelyard.kit.storage import ArtifactStore

CONFIG = "config.json"


@dataclass
class ModelFiles:
    """Small files of models, each read once."""

    store: ArtifactStore
    _configs: dict[str, Mapping[str, Any] | None] = field(default_factory=dict)

    def read_config(self, artifact_key: str) -> Mapping[str, Any] | None:
        """A model's `config.json`; None if the store has none that can be read, as for an adapter."""
        if artifact_key not in self._configs:
            self._configs[artifact_key] = self._read(artifact_key)
        return self._configs[artifact_key]

    def _read(self, artifact_key: str) -> Mapping[str, Any] | None:
        try:
            config = json.loads(self.store.read_text(artifact_key, CONFIG))
        except (OSError, ValueError):
            return None
        return config if isinstance(config, dict) else None
