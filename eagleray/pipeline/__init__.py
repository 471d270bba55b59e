"""The main jobs, end to end: each joins the rooms for one question, and decides the random keys."""
