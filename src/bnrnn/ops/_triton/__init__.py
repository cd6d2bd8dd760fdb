"""The recurrences on a GPU, in Triton."""
