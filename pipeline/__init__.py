"""Photographs to batches: pack once, then read any sample of any epoch by its number."""
