"""A published model to answers over HTTP. Knows nothing of how the model came about."""
