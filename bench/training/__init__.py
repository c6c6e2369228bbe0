"""Training beside the usual scripts, on this machine."""
