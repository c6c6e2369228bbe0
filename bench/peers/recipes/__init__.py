"""Recipes the benchmark puts in the place of ours."""
