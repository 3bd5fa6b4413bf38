"""Object storage: datasets, runs and models under a URL instead of in a folder."""
