"""What each `modelyard …` command takes and prints. Heavy imports live inside the commands, so that `--help` is quick."""
