"""Deployments: models that answer requests, and the requests they answered."""
