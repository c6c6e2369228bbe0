"""Schedules: jobs and pipelines that are submitted again and again."""
