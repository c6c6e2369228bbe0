"""Queues and workers over HTTP."""
