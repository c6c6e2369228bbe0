"""Decisions about who runs when and where: pure functions over plain data."""
