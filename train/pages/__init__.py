"""Pages and pictures: self-contained HTML, figures in light and dark, sheets of thumbnails."""
