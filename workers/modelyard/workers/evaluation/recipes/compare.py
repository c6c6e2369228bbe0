"""Compare a candidate with its base on the same held-out items, and decide whether it may go on.

python -m modelyard.workers.evaluation.recipes.compare --spec examples/recipes/evaluate.yaml --run-dir /tmp/evaluate
"""

import json
from collections.abc import Sequence
from typing import Any

from modelyard.domain.specs.evaluation import EvaluateSpec
from modelyard.workers.conversations import Conversation, read_conversations, read_template, sample_conversations
from modelyard.workers.evaluation.comparison import Comparison
from modelyard.workers.evaluation.gate import GateDecision, decide_gate
from modelyard.workers.evaluation.report import write_report
from modelyard.workers.libraries import configure_libraries
from modelyard.workers.recipe import Run, run_recipe
from modelyard.workers.scoring import Progress, Scores, score_model


def main(run: Run[EvaluateSpec]) -> None:
    """Score base and candidate one after the other, compare, decide, report."""
    spec = run.spec
    items = sample_conversations(read_conversations(run.inputs["dataset"].path, "heldout"), spec.items, spec.seed)

    configure_libraries(run.device)
    progress = Progress(run, total=2 * (len(items) + min(spec.generate_items, len(items))))
    base, precision = _score(run, "base", items, progress)
    candidate, _ = _score(run, "candidate", items, progress)

    comparison = Comparison(items, base, candidate)
    decision = decide_gate(comparison.gate_interval(spec), spec.gate)
    document = _document(run, comparison, decision, precision)
    _hand_over(run, document, comparison.rows())
    run.figures(**headline(document))


def headline(document: dict[str, Any]) -> dict[str, Any]:
    """Figures for a closing table: both perplexities, the gated gain with its interval, the decision."""
    metrics, interval = document["metrics"], document["gate"]["interval"]
    figures = {f"perplexity_{name}": metrics[name]["perplexity"] for name in ("base", "candidate")}
    if "rouge_l" in metrics["base"]:
        figures |= {f"rouge_l_{name}": metrics[name]["rouge_l"] for name in ("base", "candidate")}
    return {
        **figures,
        "gate_metric": document["gate"]["metric"],
        "gain": round(interval["gain"], 6),
        "interval_low": round(interval["low"], 6),
        "interval_high": round(interval["high"], 6),
        "gate_passed": document["gate_passed"],
        "items": document["items"],
        "precision": document["precision"],
    }


def _score(run: Run[EvaluateSpec], name: str, items: Sequence[Conversation], progress: Progress) -> tuple[Scores, str]:
    from modelyard.workers.language_model import load_language_model, release

    progress.what = name
    run.phase("load")
    template = read_template(run.inputs["prompt"].path) if "prompt" in run.inputs else None
    model = load_language_model(run.inputs[name].path, run.device)
    run.phase("evaluate")
    try:
        count = min(run.spec.generate_items, len(items))
        return score_model(model, items, template, count, run.spec.max_new_tokens, progress.step), model.precision
    finally:
        release(model)


def _document(run: Run[EvaluateSpec], comparison: Comparison, decision: GateDecision, precision: str) -> dict[str, Any]:
    return {
        "name": run.spec.name,
        "base_id": run.inputs["base"].id,
        "candidate_id": run.inputs["candidate"].id,
        "dataset_id": run.inputs["dataset"].id,
        "items": len(comparison.items),
        "precision": precision,
        "seed": run.spec.seed,
        "truncated_items": max(comparison.base.truncated_items, comparison.candidate.truncated_items),
        "metrics": {"base": comparison.base.summary(), "candidate": comparison.candidate.summary()},
        "gains": {name: interval.as_dict() for name, interval in comparison.gains(run.spec).items()},
        "gate_passed": decision.passed,
        "gate": decision.as_dict(),
    }


def _hand_over(run: Run[EvaluateSpec], document: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    folder = run.output_folder("evaluation")
    (folder / "evaluation.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    with (folder / "items.jsonl").open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_report(folder / "report.html", document, rows)
    run.output("evaluation", "evaluation", **document)


if __name__ == "__main__":
    run_recipe(main)
