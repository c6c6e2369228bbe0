"""The times of a schedule: pure functions over cron text, timezone and a clock. Times are seconds since the epoch.

Clock changes are treated as Debian's cron does: a time of the day that is skipped in spring comes right after the gap,
one that comes twice in autumn counts once; `*` and `*/n` hours and minutes follow the clock as it runs.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from modelyard.domain.errors import InvalidRequest

CATCH_UP_SECONDS = 86_400.0
"""How late a run may start after an outage; what is older is left out."""
FIELDS = 5
FIRST_WAIT_SECONDS = 10.0
LONGEST_WAIT_SECONDS = 3600.0


@dataclass(frozen=True)
class Due:
    """What to do about the times that have come."""

    at: float
    """The newest of them."""
    is_too_late: bool
    skipped: int
    """Earlier ones within the catch-up time that nobody filled."""
    next_at: float | None


def check_timing(cron: str, timezone: str) -> None:
    """Raise `InvalidRequest`, naming the field, unless these describe times to come."""
    if timezone not in available_timezones():
        example = "an IANA name such as UTC, Europe/Berlin or America/New_York"
        raise InvalidRequest(f"timezone: {timezone!r} is unknown; give {example}", field="timezone", value=timezone)
    shape = "minute hour day-of-month month day-of-week, e.g. `0 6 * * MON-FRI`"
    if len(cron.split()) != FIELDS:
        raise InvalidRequest(f"cron: {cron!r} has {len(cron.split())} fields; five are wanted: {shape}", field="cron", value=cron)
    try:
        times = upcoming(cron, timezone, 0.0, 1)
    except CronSimError as error:
        raise InvalidRequest(f"cron: {cron!r}: {error}; the fields are {shape}", field="cron", value=cron) from error
    if not times:
        raise InvalidRequest(f"cron: {cron!r} names no time within 50 years", field="cron", value=cron)


def upcoming(cron: str, timezone: str, after: float, count: int) -> list[float]:
    """The next times after a moment, soonest first; fewer where there are no more."""
    return list(islice(_times(cron, timezone, after), count))


def choose(cron: str, timezone: str, next_at: float, now: float) -> Due:
    """Of the times from `next_at` to `now`, the newest; how many it passes over; and what comes next."""
    at, skipped = next_at, 0
    oldest = now - CATCH_UP_SECONDS
    # Longer outages are not counted through: a schedule of minutes would have half a million times in a year.
    for time in _times(cron, timezone, max(next_at, oldest)):
        if time > now:
            return Due(at, at < oldest, skipped, time)
        skipped += at >= oldest
        at = time
    return Due(at, at < oldest, skipped, None)


def wait_after(failures: int) -> float:
    """Seconds until a time that could not be filled is tried again: at once, then 10, 20, 40 … up to an hour. Pure."""
    return 0.0 if failures <= 1 else min(FIRST_WAIT_SECONDS * 2.0 ** min(failures - 2, 32), LONGEST_WAIT_SECONDS)


def _times(cron: str, timezone: str, after: float) -> Iterator[float]:
    for moment in CronSim(cron, datetime.fromtimestamp(after, ZoneInfo(timezone))):
        time = moment.timestamp()
        if time > after:  # in the repeated hour of autumn it may name the first of the two, which is over
            yield time
