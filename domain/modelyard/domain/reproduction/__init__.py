"""Running a job again from its start, and saying whether the same came out."""
