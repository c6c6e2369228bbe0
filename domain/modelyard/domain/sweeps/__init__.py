"""Sweeps: the search for the best hyper-parameters, as many trials of one job."""
