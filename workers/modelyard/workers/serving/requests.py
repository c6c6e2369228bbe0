"""What clients may send: the part of OpenAI's requests this server honours. The rest is refused, not overlooked."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, field_validator, model_validator


def _require_encodable(text: str) -> str:
    # JSON may hold half of a surrogate pair, which no tokenizer takes. A UnicodeEncodeError is a ValueError.
    text.encode()
    return text


Text = Annotated[str, AfterValidator(_require_encodable)]

HARMLESS: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "logprobs": (False, 0),
    "top_logprobs": (0,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
}
"""Parameters that would change the answer and are not implemented, with the values that change nothing."""


class StreamOptions(BaseModel):
    """How a stream is sent."""

    include_usage: bool = False
    """Send the usage in a chunk of its own, without choices, instead of with the last choice."""


class GenerationRequest(BaseModel):
    """What both kinds of request share."""

    model: str
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    stop: list[Text] = Field(default=[], max_length=4)
    seed: int | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse_unsupported(cls, data: Any) -> Any:
        for name, harmless in HARMLESS.items():
            value = data.get(name) if isinstance(data, dict) else None
            if value is not None and value not in harmless:
                raise ValueError(f"{name}={value!r} is not supported by this server; leave it out")
        return data

    @field_validator("stop", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        listed = [value] if isinstance(value, str) else (value or [])
        return [text for text in listed if text != ""]

    @property
    def wanted_tokens(self) -> int | None:
        """The client's own limit of the answer, under either of its two names."""
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens

    @property
    def include_usage(self) -> bool:
        """Whether the stream ends with a usage chunk of its own."""
        return self.stream_options is not None and self.stream_options.include_usage


class ChatMessage(BaseModel):
    """One message. Content may be text or a list of text parts."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text

    @field_validator("role", mode="after")
    @classmethod
    def _developer_is_system(cls, value: str) -> str:
        # OpenAI renamed it; chat templates of open models know only the old name.
        return "system" if value == "developer" else value

    @field_validator("content", mode="before")
    @classmethod
    def _joined(cls, value: Any) -> Any:
        if not isinstance(value, list):
            return "" if value is None else value
        if any(not isinstance(part, dict) or part.get("type") != "text" for part in value):
            raise ValueError("only parts of type text can be read by this model")
        return "".join(str(part.get("text", "")) for part in value)


class ChatRequest(GenerationRequest):
    """Body of `POST /v1/chat/completions`."""

    messages: list[ChatMessage] = Field(min_length=1)


class CompletionRequest(GenerationRequest):
    """Body of `POST /v1/completions`."""

    prompt: Text = Field(min_length=1)
    max_tokens: int | None = Field(default=16, ge=1)
    """OpenAI's default."""
