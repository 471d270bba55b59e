"""Pulsations: folding, statistics of a profile, searches, detection levels and upper limits."""
