"""Flax NNX networks: densities conditioned on data, and the parts they are made of.

Networks describe one event: a value of shape (n_value,) and a context of shape (n_context,). `jax.vmap` makes batches.
"""
