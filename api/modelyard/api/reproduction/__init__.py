"""What a job ran with, running it again, and whether the same came out."""
