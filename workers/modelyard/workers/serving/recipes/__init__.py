"""Recipes of the serving stage."""
