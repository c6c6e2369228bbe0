"""A plan as a table and the sentences below it."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from modelyard.cli.explanations import say_moment

Document = dict[str, Any]
Row = tuple[str, str, str]


def list_rows(plan: Document, now: datetime | None = None) -> list[Row]:
    """What, how much, why. Pure but for the clock."""
    now = now or datetime.now(UTC)
    return [*_list_memory(plan), *_list_disk(plan), *_list_tokens(plan), *_list_time(plan, now)]


def say_notes(plan: Document) -> list[str]:
    """What to know beside the figures, and what to do."""
    notes = [f"note: {warning}" for warning in plan["warnings"]]
    if plan["not_reckoned"]:
        notes.append(f"memory, disk and tokens are not known: {plan['not_reckoned']}")
    if plan["held"]:
        notes.append(f"it would be held: {plan['held']}")
    if plan["cost"]["exceeds"]:
        notes.append(f"quota: {plan['cost']['exceeds']}")
    if plan["probe"]:
        notes.append(
            f"probe: {plan['probe']['id']} ({plan['probe']['state']}); GET /v1/jobs/{plan['probe']['id']}/plan shows what it took"
        )
    memory, suggestion = plan["memory"], plan["suggestion"]
    if memory and memory["fits"] is False:
        notes.append("It fits on no machine that serves its queue." + ("" if suggestion else " Nothing that was tried helps."))
    if suggestion:
        changes = ", ".join(f"{place}: {value}" for place, value in suggestion["changes"].items())
        notes.append(f"what to do: {changes} ({say_bytes(suggestion['rank_bytes'])} per rank)")
        notes += [f"  {why}" for why in suggestion["why"]]
    return notes


def say_bytes(count: float) -> str:
    """`1.5 GiB`."""
    for unit, size in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} bytes"


def say_seconds(seconds: float) -> str:
    """`1.5 h`."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"


def _list_memory(plan: Document) -> Iterator[Row]:
    memory = plan["memory"]
    if memory is None:
        return
    for piece in memory["pieces"]:
        yield f"  {piece['name']}", say_bytes(piece["bytes"]), piece["formula"]
    for piece in memory["offloaded"]:
        yield f"  {piece['name']}, in the host's memory", say_bytes(piece["bytes"]), piece["formula"]
    yield "memory per rank", say_bytes(memory["rank_bytes"]), f"on a {memory['accelerator'].upper()}, while {memory['moment']}"
    for fit in memory["machines"]:
        has = "did not say what it has" if fit["available_bytes"] is None else f"of {say_bytes(fit['available_bytes'])}"
        yield fit["worker_id"], say_bytes(fit["needed_bytes"]), f"{has}, {VERDICTS[fit['fits']]}"


VERDICTS = {True: "fits", False: "does not fit", None: "unknown"}


def _list_disk(plan: Document) -> Iterator[Row]:
    disk = plan["disk"]
    if disk is not None:
        checkpoint = disk["checkpoint"]
        why = f"{disk['checkpoints_kept']} checkpoints of {say_bytes(checkpoint['bytes'])} kept, one more while it is written"
        yield "disk", say_bytes(disk["total_bytes"]), f"{why}, and {say_bytes(disk['outputs']['bytes'])} of outputs"


def _list_tokens(plan: Document) -> Iterator[Row]:
    tokens = plan["tokens"]
    if tokens is None:
        return
    yield "tokens", f"{tokens['total']:,}", f"{tokens['per_step']:,} per step"
    if tokens["dataset"] is None:
        yield "tokens of the data", "unknown", tokens["basis"]
        return
    yield "tokens of the data", f"{tokens['dataset']:,}", f"seen {tokens['epochs']:.2f} times; {tokens['basis']}"
    yield "cut off", f"{tokens['truncated_share']:.1%}", f"of the rows lose their end; {tokens['dropped_share']:.1%} are dropped"


def _list_time(plan: Document, now: datetime) -> Iterator[Row]:
    time, cost, start = plan["time"], plan["cost"], plan["start"]
    if time["expected_seconds"] is None:
        yield "time", "unknown", time["basis"]
    else:
        between = f"between {say_seconds(time['low_seconds'])} and {say_seconds(time['high_seconds'])}"
        yield "time", say_seconds(time["expected_seconds"]), f"{between}, {time['basis']}"
        yield "slot-hours", f"{cost['expected_slot_hours']:.3g}", _say_budget(cost)
    yield "start", say_moment(start["expected"], now) if start["expected"] else "unknown", start["basis"]


def _say_budget(cost: Document) -> str:
    if cost["slot_hours_per_month"] is None:
        return f"{cost['slots']} slots; nothing limits the project's hours"
    return f"{cost['slots']} slots; {cost['slot_hours_used']:.2f} of {cost['slot_hours_per_month']:g} are used this month"


def say_preview(found: Document) -> list[str]:
    """Each row: its tokens, those that are learned in brackets, and what of it is lost."""
    head = f"{found['dataset']} with the tokenizer of {found['tokenizer']}, {found['sequence_length']} tokens per sequence"
    return [head, *(line for row in found["data"] for line in _say_row(row, found["kind"]))]


def _say_row(row: Document, kind: str) -> Iterator[str]:
    lost = " It is left out: nothing to learn from is left of it." if row["dropped"] else _say_lost(row, kind)
    label = "" if row["label"] is None else f" A {'good' if row['label'] else 'bad'} answer."
    yield ""
    yield f"row {row['number']}: {row['count']} tokens.{label}{lost}"
    yield _say_tokens(row)
    if row["second"]:
        yield f"  rejected: {row['second']['count']} tokens.{_say_lost(row['second'], kind)}"
        yield _say_tokens(row["second"])
    if row["rewarded"]:
        yield from _say_rewards(row["rewarded"])


def _say_lost(sequence: Document, kind: str) -> str:
    if not sequence["beyond"]:
        return ""
    where = "go on in the next sequence" if kind == "pretrain" else "are cut off"
    return f" {sequence['beyond']} do not fit and {where}."


def _say_tokens(sequence: Document) -> str:
    return "  " + " ".join(_say_token(token) for token in sequence["tokens"])


def _say_rewards(found: Document) -> Iterator[str]:
    rules = " + ".join(f"{each['weight']:g} × {each['score']:g} {each['name']}" for each in found["rewards"])
    yield f"  an answer of {found['tokens']} tokens, {found['answer']!r}, is rewarded with {found['total']:g} = {rules}"


def _say_token(token: Document) -> str:
    text = token["text"].replace("\n", "⏎").replace(" ", "·")
    return f"[{token['id']} {text}]" if token["learned"] else f"{token['id']} {text}"
