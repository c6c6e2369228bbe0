"""Which program does the work of which kind of job. Names only: importing this loads no recipe."""

RECIPES: dict[str, str] = {
    "prepare": "modelyard.workers.data.recipes.prepare",
    "import": "modelyard.workers.data.recipes.import_model",
    "pretrain": "modelyard.workers.training.recipes.pretrain",
    "finetune": "modelyard.workers.training.recipes.sft",
    "preference": "modelyard.workers.training.recipes.preference",
    "grpo": "modelyard.workers.training.recipes.grpo",
    "prompt": "modelyard.workers.prompts.recipes.compare",
    "evaluate": "modelyard.workers.evaluation.recipes.compare",
    "deploy": "modelyard.workers.serving.recipes.serve",
    "monitor": "modelyard.workers.monitoring.recipes.report",
}
"""Kind of job -> module started with `python -m`, whose `main(run)` does the work."""

ONLINE = frozenset({"import"})
"""Kinds that may fetch from the model hub, which libraries decide when they are imported."""

_MODEL = ("torch", "transformers", "transformers.models.llama.modeling_llama", "transformers.models.auto.tokenization_auto")
_TUNING = tuple(f"modelyard.workers.training.{each}" for each in ("late_libraries", "token_loss", "documents", "recipes.sft"))
_PRETRAINING = tuple(f"modelyard.workers.training.{each}" for each in ("late_libraries", "engine", "loop", "validation"))
_PREFERENCE = (*_TUNING, "modelyard.workers.training.preference_losses", "modelyard.workers.training.recipes.preference")
_REINFORCEMENT = (*_TUNING, "modelyard.workers.training.sampling", "modelyard.workers.training.recipes.grpo")
HEAVY: dict[str, tuple[str, ...]] = {
    "pretrain": (*_MODEL, "deepspeed", "deepspeed.ops", "deepspeed.runtime.utils", *_PRETRAINING),
    "finetune": (*_MODEL, "deepspeed", "deepspeed.ops", "deepspeed.runtime.utils", "peft", *_TUNING),
    "preference": (*_MODEL, "deepspeed", "deepspeed.ops", "deepspeed.runtime.utils", "peft", *_PREFERENCE),
    "grpo": (*_MODEL, "deepspeed", "deepspeed.ops", "deepspeed.runtime.utils", "peft", *_REINFORCEMENT),
    "prompt": (*_MODEL, "modelyard.workers.language_model"),
    "evaluate": (*_MODEL, "modelyard.workers.language_model"),
    "deploy": (*_MODEL, "modelyard.workers.language_model", "modelyard.workers.serving.application"),
}
"""Kind of job -> what its recipe imports only when it works, and takes seconds: a warm parent has done it before."""
