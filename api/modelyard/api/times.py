"""Times in answers: ISO 8601 with zone, from the seconds the database keeps."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import BeforeValidator


def _from_seconds(value: object) -> object:
    return datetime.fromtimestamp(value, UTC) if isinstance(value, int | float) else value


Time = Annotated[datetime, BeforeValidator(_from_seconds)]
