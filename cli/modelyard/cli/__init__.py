"""The `modelyard` command and the Python client: what a person or a script types."""
