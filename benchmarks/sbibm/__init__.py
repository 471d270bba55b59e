"""The ten tasks of sbibm (Lueckmann et al. 2021), on which methods of simulation-based inference are compared."""
