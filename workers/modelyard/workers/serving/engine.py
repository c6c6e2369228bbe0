"""Many answers at once from one model, by transformers' continuous batching with a paged key-value cache."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any

from transformers import ContinuousBatchingConfig

from modelyard.workers.language_model import LanguageModel
from modelyard.workers.serving.errors import GenerationFailed, RequestRefused
from modelyard.workers.serving.sampling import Sampling, install_processors, sampling_defaults

PAGE_TOKENS = 64
LARGEST_CPU_BATCH_TOKENS = 512
"""Tokens of one forward pass on a CPU: a longer prompt is read in pieces, so that other answers keep flowing."""
CPU_CACHE_TOKENS = 16_384
"""Tokens all running requests may hold together on a CPU, if the context is not longer."""
MAX_REQUESTS = 256
"""Requests running and waiting; beyond that the server says 429."""


class Engine:
    """Owns the thread that computes. All methods are for the event loop's thread."""

    def __init__(self, language_model: LanguageModel) -> None:
        self.language_model = language_model
        self.requests_in_flight = 0
        tokenizer = language_model.tokenizer
        self._manager = language_model.model.init_continuous_batching(
            generation_config=sampling_defaults(language_model.end_tokens, int(tokenizer.pad_token_id or 0)),
            continuous_batching_config=_batching_config(language_model),
        )
        install_processors(self._manager)
        self._manager.start()

    @property
    def failure(self) -> Exception | None:
        """Why the engine will answer nothing any more, or None while it is well."""
        return self._manager.background_thread_status.fatal_error

    async def generate(self, prompt: Sequence[int], sampling: Sampling) -> AsyncGenerator[list[int], None]:
        """Yield the tokens of an answer as they come. Leaving the iterator early ends the computation.

        Raises `RequestRefused` (429) when full and `GenerationFailed`.
        """
        if self.requests_in_flight >= MAX_REQUESTS:
            raise RequestRefused(f"{MAX_REQUESTS} requests are being answered; try again in a moment", status=429)
        request_id, outputs = uuid.uuid4().hex, asyncio.Queue[Any]()
        self._manager.register_result_handler(request_id, outputs.put_nowait)
        self.requests_in_flight += 1
        try:
            self._submit(request_id, prompt, sampling)
            async for tokens in _read_outputs(outputs):
                yield tokens
        finally:
            self.requests_in_flight -= 1
            # Harmless once it is finished. Without it a client who left would be answered to the end.
            self._manager.cancel_request(request_id)
            self._forget(request_id)

    def stop(self, seconds: float) -> None:
        """Finish the running answers, for so many seconds at most, and end the thread."""
        self._manager.stop(block=True, timeout=seconds)
        if self._manager.is_running():
            self._manager.stop(block=True, hard_stop=True)

    def _submit(self, request_id: str, prompt: Sequence[int], sampling: Sampling) -> None:
        accepted = self._manager.add_request(
            list(prompt),
            request_id=request_id,
            max_new_tokens=sampling.max_new_tokens,
            streaming=True,
            eos_token_id=self.language_model.end_tokens,
            temperature=float(sampling.temperature),
            top_p=float(sampling.top_p),
        )
        if accepted is None:
            raise RequestRefused("the server is stopping; send the request to another replica", status=503)

    def _forget(self, request_id: str) -> None:
        # The library drops a handler when its request finishes, but not when it is cancelled.
        router = self._manager.output_router
        with router._lock:
            router.result_handlers.pop(request_id, None)


async def _read_outputs(outputs: asyncio.Queue[Any]) -> AsyncIterator[list[int]]:
    """Yield the new tokens of each output; an output repeats all tokens so far."""
    seen = 0
    while True:
        output = await outputs.get()
        if output.error is not None:
            raise GenerationFailed(f"the engine failed on this request: {output.error}")
        tokens = list(output.generated_tokens[seen:])
        seen += len(tokens)
        if tokens:
            yield tokens
        if output.is_finished():
            return


def _batching_config(language_model: LanguageModel) -> ContinuousBatchingConfig:
    """On a GPU the library sizes the cache by the memory that is free; on a CPU it must be told."""
    if language_model.model.device.type != "cpu":
        return ContinuousBatchingConfig(per_request_processors=True)
    cache_tokens = max(CPU_CACHE_TOKENS, language_model.context_tokens + PAGE_TOKENS)
    return ContinuousBatchingConfig(
        per_request_processors=True,
        page_size=PAGE_TOKENS,
        num_blocks=-(-cache_tokens // PAGE_TOKENS),
        max_batch_tokens=LARGEST_CPU_BATCH_TOKENS,
        max_requests_per_batch=64,
    )
