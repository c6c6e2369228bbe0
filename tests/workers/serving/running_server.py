"""A deployment that runs, as its clients see it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import openai

MODULE = "serving.recipes.serve"
TOKEN = "correct-horse"
CONTEXT_TOKENS = 4096


@dataclass
class RunningServer:
    """Where a server answers."""

    url: str
    model_folder: Path

    @property
    def client(self) -> openai.OpenAI:
        """The official client with only its base URL changed."""
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=TOKEN, max_retries=0, timeout=60)

    @property
    def http(self) -> httpx2.Client:
        """A plain client that knows the token."""
        return httpx2.Client(base_url=self.url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60)

    def ask(self, question: str, **parameters: Any) -> Any:
        """One chat completion of at most 12 tokens unless told otherwise."""
        messages = [{"role": "user", "content": question}]
        return self.client.chat.completions.create(**{"model": "tiny", "messages": messages, "max_tokens": 12, **parameters})


def deployment(model: Path, **inputs: Any) -> dict[str, Any]:
    """`run.json` of a deployment that may write answers nearly as long as the context."""
    spec = {"kind": "deploy", "name": "tiny", "model": "m", "max_new_tokens": CONTEXT_TOKENS - 96}
    return {"spec": spec, "inputs": {"model": {"path": str(model)}, **inputs}, "options": {"token": TOKEN}}
