"""One file per experiment; base.py holds every legal key."""
