"""The deployment stage: an OpenAI-compatible server for one model."""
