"""The recurrences on a GPU, in Triton: what the cells share. Nothing here is imported before the first call there.

One step is one product by the vendor's library and one fused kernel (``step.py``). A program of that kernel owns some
units, all gates of them, with the whole batch, so that no statistic crosses programs; layer normalization, whose
statistics are over all units of a row, is the same kernel with a program for some rows. ``choice.py`` says which.

| file | |
|---|---|
| ``availability.py`` | whether the kernels can run here |
| ``choice.py`` | which kernel and which tile a call takes |
| ``plan.py`` | sizes: what is kept for the backward pass, in which order |
| ``structures.py`` | what a launch gives to a kernel |
| ``tile.py`` | the rows, units and columns of one program; activations |
| ``normalization.py`` | a site in a tile, forward and backward |
| ``step.py`` | the kernels of one step |
| ``recurrence.py`` | the two passes over a sequence: layout, products, launches |
| ``product.py``, ``fused.py`` | the same step with its product in the kernel: of one step, or of many in one launch |
| ``launches.py`` | the launches of these |
| ``barrier.py`` | where the programs of one launch wait for each other |

A cell's own arithmetic is in ``ops/<cell>/triton.py``.

Rows of products lie as ``(H, gates)``: a thread loads the gates of a unit beside each other. The rows of the weights
are permuted once a call. Vectors of one number a feature (biases, gains, statistics) stay in torch's order.
"""
