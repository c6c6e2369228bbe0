"""Ask a deployment real questions with the official `openai` client, and measure what a client sees."""

import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from modelyard.cli.errors import CommandError

QUESTIONS = (
    "Hello, how are you?",
    "What is your name?",
    "Are you a robot?",
    "What is artificial intelligence?",
    "Do you like music?",
    "What is your favourite book?",
    "Who wrote Hamlet?",
    "Tell me a joke.",
    "What do you do in your free time?",
    "Are you ever sad?",
    "What is the stock market?",
    "How does a computer work?",
    "Do you get jealous?",
    "What is a good thing to eat?",
    "Who was the first person on the moon?",
    "What is the speed of light?",
    "Do you believe in ghosts?",
    "What is money?",
    "How old are you?",
    "What makes you happy?",
    "Can you play football?",
    "What is history?",
    "Why is the sky blue?",
    "Good night!",
)
CONCURRENT_CLIENTS = 4
STREAM_EVERY = 3
"""Each third answer is streamed."""
TIMEOUT_SECONDS = 300.0


@dataclass(frozen=True)
class Answer:
    """One answered question."""

    question: str
    text: str
    completion_tokens: int
    seconds: float
    first_token_seconds: float | None
    """Until the first piece of text; None for answers that were not streamed."""


def ask_questions(url: str, key: str, model: str, answered: Callable[[Answer], None]) -> list[Answer]:
    """Send every question, a few at a time; call `answered` as answers come. Raises `CommandError`."""
    import openai

    # A platform on this machine must not be looked for behind the proxy of the environment.
    with openai.OpenAI(
        base_url=f"{url}/v1", api_key=key, timeout=TIMEOUT_SECONDS, http_client=openai.DefaultHttpxClient(trust_env=False)
    ) as client:

        def ask(number_and_question: tuple[int, str]) -> Answer:
            number, question = number_and_question
            stream = number % STREAM_EVERY == 0
            return _ask_streaming(client, model, question) if stream else _ask(client, model, question)

        try:
            with ThreadPoolExecutor(CONCURRENT_CLIENTS) as pool:
                return list(_each(pool.map(ask, enumerate(QUESTIONS, start=1)), answered))
        except openai.OpenAIError as error:
            raise CommandError(f"The deployment {model} did not answer: {error}") from error


def summarize(answers: list[Answer]) -> dict[str, Any]:
    """What a client saw: medians in seconds, tokens."""
    waits = [answer.first_token_seconds for answer in answers if answer.first_token_seconds is not None]
    return {
        "answered": len(answers),
        "streamed": len(waits),
        "median_seconds": round(statistics.median(answer.seconds for answer in answers), 3),
        "median_first_token_seconds": round(statistics.median(waits), 3),
        "completion_tokens": sum(answer.completion_tokens for answer in answers),
    }


def _ask(client: Any, model: str, question: str) -> Answer:
    started = time.monotonic()
    reply = client.chat.completions.create(model=model, messages=[{"role": "user", "content": question}])
    text = reply.choices[0].message.content or ""
    return Answer(question, text, reply.usage.completion_tokens, time.monotonic() - started, None)


def _ask_streaming(client: Any, model: str, question: str) -> Answer:
    started = time.monotonic()
    first: float | None = None
    text, tokens = "", 0
    for chunk in client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": question}], stream=True, stream_options={"include_usage": True}
    ):
        piece = chunk.choices[0].delta.content if chunk.choices else None
        if piece:
            first = first if first is not None else time.monotonic() - started
            text += piece
        tokens = chunk.usage.completion_tokens if chunk.usage else tokens
    seconds = time.monotonic() - started
    # An answer without any text has its end as its first sign.
    return Answer(question, text, tokens, seconds, seconds if first is None else first)


def _each(answers: Iterator[Answer], answered: Callable[[Answer], None]) -> Iterator[Answer]:
    for answer in answers:
        answered(answer)
        yield answer
