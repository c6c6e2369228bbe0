"""Recipes of the prompts stage."""
