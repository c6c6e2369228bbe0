"""What the engine is compared with; each runs in an environment of its own."""
