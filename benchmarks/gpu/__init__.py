"""The GPU's benchmarks: one command that checks and measures all there is in the minutes for which one is lent."""
