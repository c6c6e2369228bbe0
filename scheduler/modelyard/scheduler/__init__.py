"""Who runs when, and repair: everything here would happen with nobody asking."""
