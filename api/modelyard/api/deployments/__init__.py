"""Deployments over HTTP, and the gateway to their model servers."""
