"""The benchmark of X-ray timing: twelve questions whose exact answers are known, or can be sampled."""
