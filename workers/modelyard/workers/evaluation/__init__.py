"""The evaluation stage: compare a candidate with its base, and decide the gate."""
