"""Which program does the work of which kind of job. Names only: importing this loads no recipe."""

RECIPES: dict[str, str] = {
    "prepare": "modelyard.workers.data.recipes.prepare",
    "import": "modelyard.workers.data.recipes.import_model",
    "pretrain": "modelyard.workers.training.recipes.pretrain",
    "finetune": "modelyard.workers.training.recipes.sft",
    "prompt": "modelyard.workers.prompts.recipes.compare",
    "evaluate": "modelyard.workers.evaluation.recipes.compare",
    "deploy": "modelyard.workers.serving.recipes.serve",
    "monitor": "modelyard.workers.monitoring.recipes.report",
}
"""Kind of job -> module started with `python -m`."""
