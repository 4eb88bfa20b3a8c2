"""Activations that are computed once and stored: how they are made, of what, and whether they still are of it."""
