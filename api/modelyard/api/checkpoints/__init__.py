"""Checkpoints by their ids: look, verify, remove."""
