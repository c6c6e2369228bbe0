"""The engine by itself: leaving ends the computation, and failures are told."""

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from modelyard.workers.language_model import load_language_model
from modelyard.workers.serving import engine as engine_module
from modelyard.workers.serving.engine import Engine
from modelyard.workers.serving.errors import GenerationFailed, RequestRefused
from modelyard.workers.serving.sampling import Sampling

LONG = Sampling(max_new_tokens=3500)
PROMPT = list(range(5, 25))


@pytest.fixture
def engine(endless_model: Path) -> Iterator[Engine]:
    made = Engine(load_language_model(endless_model))
    yield made
    made.stop(seconds=0)


async def _wait_until_idle(engine: Engine) -> None:
    # The library's own view, not our count of requests: is it still computing?
    while engine._manager.batch_processor.has_pending_requests():
        await asyncio.sleep(0.01)


class TestGenerate:
    def test_leaving_early_ends_the_computation(self, engine: Engine) -> None:
        async def leave_after_the_first_tokens() -> int:
            async with aclosing(engine.generate(PROMPT, LONG)) as batches:
                count = len(await anext(batches))
            # The whole answer takes about ten seconds.
            await asyncio.wait_for(_wait_until_idle(engine), timeout=2)
            return count

        assert 0 < asyncio.run(leave_after_the_first_tokens()) < 100
        assert engine.requests_in_flight == 0

    def test_an_answer_has_as_many_tokens_as_asked_for(self, engine: Engine) -> None:
        async def collect() -> list[int]:
            return [token async for tokens in engine.generate(PROMPT, Sampling(33)) for token in tokens]

        assert len(asyncio.run(collect())) == 33

    def test_a_full_engine_says_so(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(engine_module, "MAX_REQUESTS", 1)

        async def ask_twice() -> None:
            async with aclosing(engine.generate(PROMPT, LONG)) as batches:
                await anext(batches)
                await anext(engine.generate(PROMPT, Sampling(1)))

        with pytest.raises(RequestRefused, match="try again") as caught:
            asyncio.run(ask_twice())
        assert caught.value.status == 429

    def test_a_crash_of_the_model_reaches_the_client_and_the_health(self, engine: Engine) -> None:
        async def ask() -> None:
            with pytest.raises(GenerationFailed):
                # A token the embedding does not have.
                await anext(engine.generate([10**6], Sampling(3)))
            # The library tells the clients first.
            while engine.failure is None:
                await asyncio.sleep(0.01)

        assert engine.failure is None
        asyncio.run(asyncio.wait_for(ask(), timeout=10))
        assert isinstance(engine.failure, IndexError)
