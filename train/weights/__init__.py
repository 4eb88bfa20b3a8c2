"""Weights that others trained, into a run folder and out of one, with the proof that nothing changed on the way."""
