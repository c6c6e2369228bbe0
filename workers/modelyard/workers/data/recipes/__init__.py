"""Programs of the data stage."""
