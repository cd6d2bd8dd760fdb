"""Normalized recurrent networks."""
