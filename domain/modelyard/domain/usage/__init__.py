"""The ledger of slot-hours: what each attempt used, and what came of it."""
