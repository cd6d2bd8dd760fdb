from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import torch

from bnrnn.data import digits, mnist
from bnrnn.data.registry import DataError


def test_digits_are_split_without_overlap_and_in_equal_shares() -> None:
    images = digits.load()
    assert (len(images.train_labels), len(images.valid_labels), len(images.test_labels)) == (1204, 297, 296)
    assert images.train_images.shape == (1204, 64)
    assert images.train_images.dtype == torch.uint8
    assert images.train_images.max() == images.maximum == 16
    assert [*images.sources] == ["digits"]
    assert len(bytes.fromhex(images.sources["digits"])) == 32
    for labels, least, most in (
        (images.train_labels, 116, 124),
        (images.valid_labels, 29, 30),
        (images.test_labels, 29, 30),
    ):
        counts = labels.bincount(minlength=10)
        assert counts.min() >= least
        assert counts.max() <= most
    # The data set starts 0, 1, ..., 9 three times over; the fifth "0" of the set is the first for validation.
    assert images.train_labels[:10].tolist() == list(range(10))


def test_digits_keep_every_image_once() -> None:
    from sklearn.datasets import load_digits

    pixels, _ = load_digits(return_X_y=True)
    images = digits.load()
    together = torch.cat([images.train_images, images.valid_images, images.test_images])
    assert sorted(map(tuple, together.tolist())) == sorted(map(tuple, pixels.astype(int).tolist()))


def idx(*shape: int, data: bytes, magic: bytes = b"\x00\x00\x08") -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in shape)
    return gzip.compress(magic + bytes([len(shape)]) + sizes + data)


def test_reads_idx(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(idx(2, 3, 1, data=bytes([1, 2, 3, 4, 5, 255])))
    assert mnist.read_idx(path).tolist() == [[[1], [2], [3]], [[4], [5], [255]]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "idx file"),
        (b"no gzip at all", "gzip"),
        (idx(2, 3, data=bytes(6))[:-12], "gzip"),
        (gzip.compress(b"\x00\x00"), "idx file"),
        (idx(2, 3, data=bytes(6), magic=b"\x00\x00\x0d"), "idx file"),
        (gzip.compress(b"\x00\x00\x08\x02\x00\x00"), "idx file"),
        (idx(2, 3, data=bytes(5)), "holds 5 bytes of data, its header promises 6"),
        (idx(2, 3, data=bytes(7)), "holds 7 bytes of data, its header promises 6"),
    ],
)
def test_a_damaged_idx_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        mnist.read_idx(path)
    assert str(path) in str(caught.value)


@pytest.mark.real_data
def test_mnist_is_split_as_the_paper_has_it() -> None:
    images = mnist.load()
    assert images.train_images.shape == (50_000, 784)
    assert len(images.sources) == 4
    assert images.sources["mnist/t10k-labels-idx1-ubyte.gz"].startswith("f7ae60f9")
    assert images.valid_images.shape == images.test_images.shape == (10_000, 784)
    assert images.train_labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert images.valid_labels[:5].tolist() == [3, 8, 6, 9, 6]
    assert images.test_labels[:5].tolist() == [7, 2, 1, 0, 4]
    total = images.train_images.sum() + images.valid_images.sum()
    assert abs(total.item() / (60_000 * 784) - 33.318421) < 1e-5  # the known mean of the 60,000 images
