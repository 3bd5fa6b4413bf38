"""Batches to a published model: the 2012 recipe on any number of workers."""
