"""Projects and their API keys over HTTP."""
