"""A run's folder: on disk, or below the URL of a store."""
