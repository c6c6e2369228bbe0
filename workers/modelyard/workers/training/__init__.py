"""The training stage: pre-train from scratch and fine-tune, both under DeepSpeed."""
