"""What the test images say at the end of a run: what is confused, the worst mistakes, what was in training too."""
