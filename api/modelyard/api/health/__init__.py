"""Is it alive, and what does not answer."""
