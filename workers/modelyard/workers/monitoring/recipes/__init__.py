"""Recipes of the monitoring stage."""
