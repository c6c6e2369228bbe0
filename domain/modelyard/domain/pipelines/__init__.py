"""Pipelines: jobs that wait for each other and pass their outputs on."""
