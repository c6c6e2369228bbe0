"""Describe what a deployment answered: service levels, and drift of its prompts against those of training.

python -m modelyard.workers.monitoring.recipes.report --spec examples/recipes/monitor.yaml --run-dir /tmp/monitor
"""

import json
from collections.abc import Sequence
from typing import Any

from modelyard.domain.specs.monitoring import MonitorSpec
from modelyard.workers.conversations import last_user_text, read_conversations
from modelyard.workers.monitoring.drift import Drift, measure_drift
from modelyard.workers.monitoring.interactions import Interaction, read_interactions
from modelyard.workers.monitoring.report import write_report
from modelyard.workers.monitoring.service_levels import measure_service_levels
from modelyard.workers.recipe import BadData, Run, run_recipe


def main(run: Run[MonitorSpec]) -> None:
    """Read interactions, measure, test for drift, report."""
    interactions = read_interactions(run.inputs["deployment"].path, run.spec.max_interactions)
    service = measure_service_levels(interactions)
    run.progress(0.3, f"{len(interactions)} interactions")

    run.phase("evaluate")
    drift = _measure_drift(run, interactions)
    run.progress(0.9, "drift measured")

    figures = service | {"drift": round(drift.discrepancy, 6), "drift_p_value": round(drift.p_value, 6)}
    figures["drift_detected"] = drift.is_drifting
    _hand_over(run, _document(run, interactions, service, drift), figures, interactions, drift)
    run.figures(**figures)


def _measure_drift(run: Run[MonitorSpec], interactions: Sequence[Interaction]) -> Drift:
    reference = read_conversations(run.inputs["reference"].path, "train")
    questions = [last_user_text([*conversation.messages]) for conversation in reference]
    prompts = [i.question for i in interactions if i.question and not i.is_refused]
    try:
        return measure_drift(prompts, questions, run.spec.drift_permutations, run.spec.seed)
    except ValueError as error:
        raise BadData(f"{error}; wait for more requests, or take a larger reference dataset") from error


def _document(
    run: Run[MonitorSpec], interactions: Sequence[Interaction], service: dict[str, Any], drift: Drift
) -> dict[str, Any]:
    return {
        "name": run.spec.name,
        "deployment_id": run.inputs["deployment"].id,
        "reference_id": run.inputs["reference"].id,
        "from": interactions[0].created_at.isoformat(),
        "to": interactions[-1].created_at.isoformat(),
        "service": service,
        "drift": {
            "test": "squared maximum mean discrepancy, Gaussian kernel on hashed character n-grams, permutation p-value",
            "discrepancy": drift.discrepancy,
            "p_value": drift.p_value,
            "permutations": run.spec.drift_permutations,
            "prompts": drift.prompts,
            "references": drift.references,
            "is_drifting": drift.is_drifting,
            "interpretation": drift.interpretation,
        },
    }


def _hand_over(
    run: Run[MonitorSpec],
    document: dict[str, Any],
    figures: dict[str, Any],
    interactions: Sequence[Interaction],
    drift: Drift,
) -> None:
    folder = run.output_folder("report")
    (folder / "report.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    write_report(folder / "report.html", document, interactions, drift)
    run.output("report", "monitor_report", name=run.spec.name, figures=figures)


if __name__ == "__main__":
    run_recipe(main)
