"""Figures measured side by side: A B A B, medians, so that what else the machine does meets both."""
