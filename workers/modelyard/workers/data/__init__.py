"""The data stage: prepare datasets and bring models in from outside."""
