"""How fast the layers are beside torch's own, after a check that they are right: see benchmarks/README.md."""
