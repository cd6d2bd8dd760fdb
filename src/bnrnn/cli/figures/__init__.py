"""The figures of ``bnrnn figure``, a module each, with ``SUMMARY`` and ``run(arguments)``."""
