"""The closing table of the quickstart, and how to go on."""

from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from modelyard.cli.console import format_figures, messages, say

Document = dict[str, Any]

HEADLINES: dict[str, tuple[str, ...]] = {
    "prepare": ("rows_train", "rows_heldout", "duplicates"),
    "import": ("parameters", "tokenizer_verified"),
    "pretrain": ("validation_perplexity_first", "validation_perplexity", "tokens_per_second"),
    "finetune": ("validation_loss_first", "validation_loss", "trainable_parameters"),
    "preference": ("validation_reward_accuracy_first", "validation_reward_accuracy", "validation_reward_margin"),
    "grpo": ("validation_reward_first", "validation_reward", "validation_answer_tokens"),
    "prompt": ("template", "perplexity", "runner_up", "gain"),
    "evaluate": ("perplexity_base", "perplexity_candidate", "gain", "interval_low", "interval_high", "gate_passed"),
    "deploy": ("seconds_to_ready",),
    "monitor": ("requests", "latency_p50_seconds", "latency_p95_seconds", "drift_p_value", "drift_detected"),
}
"""Of each kind the figures one looks at first; `--json` and the dashboard have them all."""


def choose_figures(kind: str, figures: Document) -> Document:
    """The headline figures of a kind, in their order; all of them for a kind without headlines."""
    return {name: figures[name] for name in HEADLINES.get(kind, tuple(figures)) if name in figures}


def show_closing(outcome: Document, api_url: str, data_dir: Path, has_stopped: bool) -> None:
    """Show what each stage measured. On standard error: with `--json`, standard output is one document."""
    table = Table("stage", "status", "measured", "seconds", header_style="bold")
    table.columns[3].justify = "right"
    for stage in outcome["stages"]:
        figures = format_figures(choose_figures(stage["kind"], stage["figures"]))
        seconds = "" if stage["seconds"] is None else f"{stage['seconds']:.1f}"
        table.add_row(stage["name"], stage["status"], escape(figures), seconds)
    if outcome["requests"]:
        table.add_row("requests", "answered", escape(format_figures(outcome["requests"])), "")
    messages().print(table)
    say(f"{outcome['status']} after {outcome['seconds']:.0f} seconds", "bold")
    if has_stopped:
        say(f"The platform is stopped; `modelyard up --data-dir {data_dir}` starts it again with all it has.")
    elif outcome["status"] == "succeeded":
        say(_how_to_go_on(api_url, data_dir))


def _how_to_go_on(api_url: str, data_dir: Path) -> str:
    return f"""
The platform stays up: {api_url}/ (dashboard), {api_url}/docs (API). Ask the model something yourself:

  export MODELYARD_API_KEY=$(python3 -c 'import json; print(json.load(open("{data_dir}/credentials.json"))["api_key"])')
  curl {api_url}/v1/chat/completions -H "Authorization: Bearer $MODELYARD_API_KEY" -H 'Content-Type: application/json' \\
    -d '{{"model": "quickstart", "messages": [{{"role": "user", "content": "Do you like music?"}}]}}'

See the jobs with `modelyard jobs --data-dir {data_dir}`, stop with `modelyard down --data-dir {data_dir}`.
"""
