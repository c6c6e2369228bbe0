"""The prompt stage: compare templates on held-out items."""
