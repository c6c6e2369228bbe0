"""Looking at a job before it runs: its plan, and its data as the model would see them."""
