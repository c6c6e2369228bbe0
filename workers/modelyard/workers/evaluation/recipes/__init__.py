"""Recipes of the evaluation stage."""
