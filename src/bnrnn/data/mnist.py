"""MNIST as both papers' successors use it: 50,000 training, 10,000 validation and 10,000 test images.

The validation part is the last 10,000 images of the training file (Cooijmans et al. 2017, released code).
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bnrnn.data.images import Images
from bnrnn.data.registry import DataError, digests, fetch

VALID = 10_000


def load() -> Images:
    """The images, uint8 (count, 784) in scan order, and labels of the three parts.

    Raises:
        DataError: a file is missing or damaged.
    """
    images = read_idx(fetch("mnist/train-images-idx3-ubyte.gz"))
    labels = read_idx(fetch("mnist/train-labels-idx1-ubyte.gz"))
    test_images = read_idx(fetch("mnist/t10k-images-idx3-ubyte.gz"))
    test_labels = read_idx(fetch("mnist/t10k-labels-idx1-ubyte.gz"))
    images, test_images = images.flatten(1), test_images.flatten(1)
    labels, test_labels = labels.long(), test_labels.long()
    return Images(
        train_images=images[:-VALID],
        train_labels=labels[:-VALID],
        valid_images=images[-VALID:],
        valid_labels=labels[-VALID:],
        test_images=test_images,
        test_labels=test_labels,
        sources=digests("mnist"),
    )


def read_idx(path: Path) -> Tensor:
    """Reads a gzipped idx file of bytes: magic 0, 0, 8, number of dimensions; big-endian sizes; the bytes.

    Raises:
        DataError: the file is not gzip, not idx of unsigned bytes, or of another length than its header says.
    """
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is not a complete gzip file ({error}); replace it by a good copy") from error
    if len(content) < 4 or content[:3] != b"\x00\x00\x08" or len(content) < 4 + 4 * content[3]:
        raise DataError(f"{path} does not start like an idx file of unsigned bytes; replace it by a good copy")
    start = 4 + 4 * content[3]
    shape = [int(size) for size in np.frombuffer(content[4:start], dtype=">u4")]
    if len(content) - start != math.prod(shape):
        raise DataError(
            f"{path} holds {len(content) - start:,} bytes of data, its header promises {math.prod(shape):,};"
            " replace it by a good copy"
        )
    return torch.frombuffer(bytearray(content[start:]), dtype=torch.uint8).reshape(shape)
