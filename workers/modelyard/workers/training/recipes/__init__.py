"""Programs of the training stage."""
