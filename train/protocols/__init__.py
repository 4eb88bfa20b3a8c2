"""How images are looked at when a trained network is tested, and what comes of it."""
