"""The Celery side of a worker: listen to what fits, claim, start a runner, wait for it."""
