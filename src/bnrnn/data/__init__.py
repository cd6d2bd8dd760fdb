"""The data sets of the experiments: where their files are, and how they become tensors.

Each module loads one data set; :mod:`bnrnn.data.registry` knows the files, finds or downloads them and checks
them by SHA-256. Nothing here knows of models.
"""
