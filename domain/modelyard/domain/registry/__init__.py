"""The registry: datasets, models, prompts, evaluations and reports, versioned by content, each knowing its job."""
