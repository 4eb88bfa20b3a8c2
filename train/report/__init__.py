"""What a run shows: report.html, its figures, and what the test images say."""
