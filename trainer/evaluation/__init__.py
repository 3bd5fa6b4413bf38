"""Errors of networks, alone and together."""
