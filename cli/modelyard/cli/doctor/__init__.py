"""`modelyard doctor`: is everything a platform needs there, and if not, what to do."""
