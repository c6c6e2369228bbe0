"""One model behind a name: turns requests into prompts and limits, and tokens into text."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

from modelyard.domain.specs.prompts import Template
from modelyard.workers.conversations import apply_template
from modelyard.workers.recipe import BadData
from modelyard.workers.serving.answer import Answer
from modelyard.workers.serving.engine import Engine
from modelyard.workers.serving.errors import RequestRefused
from modelyard.workers.serving.requests import ChatRequest, CompletionRequest, GenerationRequest
from modelyard.workers.serving.sampling import Sampling


@dataclass(frozen=True)
class Job:
    """A request that was checked and can be answered."""

    prompt: list[int]
    """Tokens."""
    sampling: Sampling
    stops: list[str]
    stream: bool
    include_usage: bool


@dataclass
class ModelService:
    """What is served: a name, a model, a template, and the limit of one answer in tokens."""

    name: str
    engine: Engine
    template: Template | None
    max_new_tokens: int
    created: int = 0

    def __post_init__(self) -> None:
        """Remember when the service was made, which `/v1/models` tells."""
        self.created = int(time.time())

    @property
    def description(self) -> dict[str, Any]:
        """Return OpenAI's model object."""
        return {"id": self.name, "object": "model", "created": self.created, "owned_by": "modelyard"}

    def require_name(self, model: str) -> None:
        """Raise `RequestRefused` (404) unless the client means this model."""
        if model != self.name:
            raise RequestRefused(
                f"this server has the model `{self.name}`, not `{model}`", status=404, code="model_not_found", param="model"
            )

    def prepare_chat(self, body: ChatRequest) -> Job:
        """Check a chat request and turn its messages into tokens. Raises `RequestRefused`."""
        messages = apply_template([message.model_dump() for message in body.messages], self.template)
        try:
            prompt = self.engine.language_model.encode_prompt(messages)
        except BadData as error:
            raise RequestRefused(f"{error}; or use /v1/completions", param="messages") from error
        except TemplateError as error:
            raise RequestRefused(f"the model's chat template refuses these messages: {error}", param="messages") from error
        return self._prepare(body, prompt)

    def prepare_completion(self, body: CompletionRequest) -> Job:
        """Check a text request and turn its prompt into tokens. Raises `RequestRefused`."""
        return self._prepare(body, list(self.engine.language_model.tokenizer(body.prompt)["input_ids"]))

    def open_answer(self, job: Job) -> Answer:
        """Begin the answer of a job."""
        model = self.engine.language_model
        return Answer(model.tokenizer, len(job.prompt), model.end_tokens, job.stops)

    async def write(self, job: Job, answer: Answer) -> AsyncGenerator[str, None]:
        """Yield the text of the answer in pieces, none of them empty. Closing it ends the computation."""
        async with aclosing(self.engine.generate(job.prompt, job.sampling)) as batches:
            async for tokens in batches:
                if piece := answer.add(tokens):
                    yield piece
                if answer.is_finished:
                    break
        if piece := answer.rest():
            yield piece

    def _prepare(self, body: GenerationRequest, prompt: list[int]) -> Job:
        self.require_name(body.model)
        sampling = self._sampling(body, len(prompt))
        if body.seed is not None and sampling.temperature > 0:
            raise RequestRefused(
                "a seed has no effect here, answers are computed in batches; use temperature 0 to get the same answer again",
                param="seed",
            )
        return Job(prompt, sampling, body.stop, body.stream, body.include_usage)

    def _sampling(self, body: GenerationRequest, prompt_tokens: int) -> Sampling:
        """The client's wishes within the limits; without wishes, what the model's makers recommend, or greedy."""
        context = self.engine.language_model.context_tokens
        if prompt_tokens >= context:
            raise RequestRefused(
                f"the prompt has {prompt_tokens} tokens, but the context is {context}, answer included; shorten it",
                code="context_length_exceeded",
                param="messages",
            )
        limit = min(body.wanted_tokens or self.max_new_tokens, self.max_new_tokens, context - prompt_tokens)
        defaults = self.engine.language_model.model.generation_config
        recommended = (defaults.temperature or 1.0, defaults.top_p or 1.0) if defaults.do_sample else (0.0, 1.0)
        temperature = recommended[0] if body.temperature is None else body.temperature
        return Sampling(limit, temperature, recommended[1] if body.top_p is None else body.top_p)
