"""Workers: which machines are there, and what they serve."""
