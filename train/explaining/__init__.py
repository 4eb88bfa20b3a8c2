"""Why a network decides about one image as it does: maps of what counts, and what excites a unit."""
