"""Compare prompt templates on held-out items and keep the one under which the reference answers are most likely.

python -m modelyard.workers.prompts.recipes.compare --spec examples/recipes/prompt.yaml --run-dir /tmp/prompt
"""

import json

from modelyard.domain.specs.prompts import PromptSpec, Template
from modelyard.workers.conversations import read_conversations, sample_conversations
from modelyard.workers.libraries import configure_libraries
from modelyard.workers.recipe import Run, run_recipe
from modelyard.workers.scoring import Progress, Scores, score_model
from modelyard.workers.statistics import Interval, bootstrap_gain


def main(run: Run[PromptSpec]) -> None:
    """Score every template on the same items, choose one, and hand it over as a prompt."""
    spec = run.spec
    items = sample_conversations(read_conversations(run.inputs["dataset"].path, "heldout"), spec.items, spec.seed)
    generate_items = min(spec.generate_items, len(items))
    configure_libraries(run.device)
    from modelyard.workers.language_model import load_language_model

    model = load_language_model(run.inputs["model"].path, run.device)
    run.phase("evaluate")
    progress = Progress(run, total=len(spec.templates) * (len(items) + generate_items))
    scores = {}
    for template in spec.templates:
        progress.what = f"template {template.name}"
        scores[template.name] = score_model(model, items, template, generate_items, spec.max_new_tokens, progress.step)

    best, runner_up = rank(scores)[:2]
    interval = _interval(scores[runner_up], scores[best], spec.seed)
    winner = next(template for template in spec.templates if template.name == best)
    _hand_over(run, winner, {name: value.summary() for name, value in scores.items()}, runner_up, interval)
    run.figures(
        template=best,
        perplexity=scores[best].summary()["perplexity"],
        runner_up=runner_up,
        gain=round(interval.gain, 6),
        interval_low=round(interval.low, 6),
        interval_high=round(interval.high, 6),
        items=len(items),
        truncated_items=scores[best].truncated_items,
        precision=model.precision,
    )


def rank(scores: dict[str, Scores]) -> list[str]:
    """Names of the templates, the most likely references first; between equals the order of the spec."""
    return sorted(scores, key=lambda name: scores[name].nll)


def _interval(runner_up: Scores, best: Scores, seed: int) -> Interval:
    """How many nats per token the best template gains over the next; an interval across 0 means they are alike."""
    gains = runner_up.negative_log_likelihoods - best.negative_log_likelihoods
    return bootstrap_gain(gains, best.tokens, seed=seed)


def _hand_over(
    run: Run[PromptSpec], winner: Template, scores: dict[str, dict[str, float]], runner_up: str, interval: Interval
) -> None:
    folder = run.output_folder("prompt")
    document = {
        "name": run.spec.name,
        "template": winner.name,
        "system": winner.system,
        "user": winner.user,
        "scores": scores,
        "runner_up": runner_up,
        "interval": interval.as_dict(),
        "model_id": run.inputs["model"].id,
    }
    (folder / "prompt.json").write_text(json.dumps(document, indent=1, ensure_ascii=False), encoding="utf-8")
    run.output("prompt", "prompt", **document)


if __name__ == "__main__":
    run_recipe(main)
