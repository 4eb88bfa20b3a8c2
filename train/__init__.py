"""How a network learns, what a run leaves behind, and what can be read from it."""
