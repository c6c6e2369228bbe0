"""`modelyard quickstart`: one real model through its whole life, with the figures that were measured."""
