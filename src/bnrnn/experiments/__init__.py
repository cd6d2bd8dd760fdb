"""The experiments of the papers, one file each; :mod:`bnrnn.experiments.registry` has them by name."""
