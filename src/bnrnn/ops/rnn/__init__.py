"""The simple (Elman) recurrence."""
