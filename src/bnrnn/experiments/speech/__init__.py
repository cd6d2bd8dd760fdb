"""Framewise classification of speech: Laurent et al. 2015, section 5.1."""
