"""The LSTM recurrence."""
