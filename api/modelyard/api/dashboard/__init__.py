"""The dashboard: the API for people who would rather look than read. Same rows, same scopes, as pages."""
