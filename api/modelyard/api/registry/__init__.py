"""Datasets, models, prompts, evaluations and reports over HTTP."""
