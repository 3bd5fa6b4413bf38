"""Answers about many photographs, as one table."""
