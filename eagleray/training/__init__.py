"""One training loop, many losses."""
