"""Datasets in object storage, brought to this machine while they are read."""
