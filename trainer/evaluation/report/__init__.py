"""One HTML page about a model: what it gets wrong, and what may be wrong with its images."""
