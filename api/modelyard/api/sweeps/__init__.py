"""Sweeps over HTTP."""
