"""A job's events as server-sent events, resumable with `Last-Event-ID`."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence

from fastapi.concurrency import run_in_threadpool
from fastapi.sse import format_sse_event

from modelyard.api.dependencies import Platform
from modelyard.api.jobs.schemas import EventPublic
from modelyard.domain.jobs.lifecycle import JobState
from modelyard.domain.jobs.repository import find_job, list_events

POLL_SECONDS = 0.5
KEEPALIVE_SECONDS = 15.0


async def stream_events(platform: Platform, job_id: str, after: int) -> AsyncIterator[bytes]:
    """Yield events as they come; ends after the last event of a finished job."""
    quiet = 0.0
    while True:
        events, is_finished = await run_in_threadpool(_look, platform, job_id, after)
        for event in events:
            after = event.id
            data = json.dumps(event.model_dump(mode="json"))
            yield format_sse_event(data_str=data, event=event.type, id=str(event.id))
        if is_finished and not events:
            return
        quiet = 0.0 if events else quiet + POLL_SECONDS
        if quiet >= KEEPALIVE_SECONDS:
            yield b": still here\n\n"
            quiet = 0.0
        await asyncio.sleep(POLL_SECONDS)


def _look(platform: Platform, job_id: str, after: int) -> tuple[Sequence[EventPublic], bool]:
    with platform.database.read() as session:
        job = find_job(session, job_id)
        events = [EventPublic.of(event) for event in list_events(session, job_id, after)]
    return events, job is None or JobState(job.state).is_finished()
