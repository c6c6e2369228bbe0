"""Projects and the keys that act in them."""
