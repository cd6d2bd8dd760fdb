"""What the papers' analysis figures are computed from, one file a figure."""
