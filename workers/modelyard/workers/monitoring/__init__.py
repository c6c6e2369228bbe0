"""The monitoring stage: latency, tokens and drift of a deployment."""
