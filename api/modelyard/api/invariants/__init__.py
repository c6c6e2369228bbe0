"""Whether what should always hold does hold."""
