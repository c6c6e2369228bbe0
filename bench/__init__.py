"""Benchmarks: how fast the engine is, beside the usual tools, on the machine they run on."""
