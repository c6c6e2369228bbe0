"""Jobs: what users submit, their attempts, events, metric points, log lines and checkpoints."""
