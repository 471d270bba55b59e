"""From a trained network or an exact likelihood to a posterior."""
