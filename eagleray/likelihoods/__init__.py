"""Exact likelihoods, where one can be written down."""
