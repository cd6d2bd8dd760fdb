"""Kaldi's files without Kaldi: archives, data directories, alignments, transition models, features."""
