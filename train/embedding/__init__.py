"""Maps of what a network makes of images: each a point in the plane, near those that it takes to be alike."""
