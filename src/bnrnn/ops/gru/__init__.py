"""The GRU recurrence."""
