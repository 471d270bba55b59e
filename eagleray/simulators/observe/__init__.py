"""The detector: from a source's rate to what is recorded."""
