"""The supervisor of one attempt: owns the lease and the slots, starts the recipe's ranks, reports, stops, reaps."""
