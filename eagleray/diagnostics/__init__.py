"""Whether to trust an answer."""
