"""What a job will need before it runs: memory, disk, tokens, time and money, by formulas over plain data."""
