"""Archives against what they were written from, and against each other where an object is there in several ways."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
from pathlib import Path

import kaldiio
import numpy as np
import pytest

from bnrnn.data.kaldi import archive
from bnrnn.data.kaldi.archive import Writer, items, parse_address, read, write_integers
from bnrnn.data.registry import DataError

KALDI = Path(os.environ.get("BNRNN_DATA") or "no-data") / "kaldi"


def random_matrix(rows: int, columns: int) -> np.ndarray:
    return np.random.default_rng(rows).normal(size=(rows, columns)).astype(np.float32)


MATRICES = {"a": random_matrix(7, 3), "b": random_matrix(1, 3), "c": random_matrix(12, 3)}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_written_in_binary_reads_back_bit_for_bit(tmp_path: Path, packed: bool, dtype: type) -> None:
    arrays = {name: x.astype(dtype) for name, x in MATRICES.items()} | {"v": np.arange(5).astype(dtype)}
    path = tmp_path / "x.ark"
    kaldiio.save_ark(str(path), arrays)
    if packed:
        path.write_bytes(gzip.compress(path.read_bytes()))
    found = dict(items(path))
    assert list(found) == list(arrays)
    for name, x in arrays.items():
        assert found[name].dtype == dtype
        np.testing.assert_array_equal(found[name], x)


@pytest.mark.parametrize("method", [2, 3, 5])
def test_compressed_matrices_differ_by_what_compression_loses(tmp_path: Path, method: int) -> None:
    x = random_matrix(50, 4)
    kaldiio.save_ark(str(tmp_path / "x.ark"), {"a": x}, compression_method=method)
    step = float(np.ptp(x)) / (65535 if method == 3 else 64)
    assert np.abs(dict(items(tmp_path / "x.ark"))["a"] - x).max() < step


def test_text_has_matrices_vectors_and_numbers_without_a_point(tmp_path: Path) -> None:
    path = tmp_path / "x.ark"
    path.write_text("a  [\n  1 2.5 \n  -3e-05 4 ]\nb  [ 1 1 0.5 ]\nc  [ ]\nd  [\n 7 8 ]\n")
    found = dict(items(path))
    np.testing.assert_array_equal(found["a"], np.array([[1, 2.5], [-3e-5, 4]], np.float32))
    np.testing.assert_array_equal(found["b"], np.array([1, 1, 0.5], np.float32))
    assert found["c"].shape == (0,)
    assert found["d"].shape == (1, 2)


@pytest.mark.parametrize("name", ["x.ark", "x.ark.gz"])
@pytest.mark.parametrize("text", [False, True])
def test_integers_read_back(tmp_path: Path, name: str, text: bool) -> None:
    arrays = {"a": np.array([3, 0, 70000], np.int32), "empty": np.zeros(0, np.int32), "c": np.array([5], np.int32)}
    write_integers(tmp_path / name, arrays, text=text)
    found = dict(items(tmp_path / name, "integers"))
    assert list(found) == list(arrays)
    for key, x in arrays.items():
        np.testing.assert_array_equal(found[key], x)


def test_integers_are_written_as_kaldiio_writes_them(tmp_path: Path) -> None:
    arrays = {"a": np.array([3, 1, 4], np.int32)}
    write_integers(tmp_path / "x.ark", arrays)
    kaldiio.save_ark(str(tmp_path / "y.ark"), arrays)
    assert (tmp_path / "x.ark").read_bytes() == (tmp_path / "y.ark").read_bytes()


def test_posteriors_and_pairs_in_binary_and_text(tmp_path: Path) -> None:
    def integer(value: int) -> bytes:
        return struct.pack("<bi", 4, value)

    def real(value: float) -> bytes:
        return struct.pack("<bf", 4, value)

    content = b"a \0B" + integer(2) + integer(2) + integer(7) + real(0.75) + integer(0) + real(0.25) + integer(0)
    (tmp_path / "post").write_bytes(content)
    assert dict(items(tmp_path / "post", "posteriors")) == {"a": [[(7, 0.75), (0, 0.25)], []]}
    (tmp_path / "post.txt").write_text("a [ 7 0.75 0 0.25 ] [ ]\n")
    assert dict(items(tmp_path / "post.txt", "posteriors")) == {"a": [[(7, 0.75), (0, 0.25)], []]}
    (tmp_path / "pairs").write_bytes(b"a \0B" + integer(1) + real(0.5) + real(2.0))
    np.testing.assert_array_equal(dict(items(tmp_path / "pairs", "pairs"))["a"], [[0.5, 2.0]])
    (tmp_path / "pairs.txt").write_text("a 0.5 2 ; 3 4.5 ;\n")
    np.testing.assert_array_equal(dict(items(tmp_path / "pairs.txt", "pairs"))["a"], [[0.5, 2.0], [3.0, 4.5]])


def test_addresses_with_offsets_and_ranges(tmp_path: Path) -> None:
    kaldiio.save_ark(str(tmp_path / "x.ark"), MATRICES, scp=str(tmp_path / "x.scp"))
    lines = dict(line.split() for line in (tmp_path / "x.scp").read_text().splitlines())
    for name, x in MATRICES.items():
        np.testing.assert_array_equal(read(parse_address(lines[name])), x)
    np.testing.assert_array_equal(read(parse_address(lines["c"] + "[2:5]")), MATRICES["c"][2:6])
    np.testing.assert_array_equal(read(parse_address(lines["c"] + "[2:5,1:2]")), MATRICES["c"][2:6, 1:3])
    np.testing.assert_array_equal(read(parse_address(lines["c"] + "[:,0:1]")), MATRICES["c"][:, :2])
    np.testing.assert_array_equal(read(parse_address(lines["c"] + "[,0:1]")), MATRICES["c"][:, :2])
    np.testing.assert_array_equal(read(parse_address(lines["c"] + "[:]")), MATRICES["c"])
    np.testing.assert_array_equal(read(parse_address(lines["c"] + "[2:14]")), MATRICES["c"][2:])
    for beyond in ("[2:15]", "[12:13]", "[:,0:6]", "[:,3:4]"):
        with pytest.raises(DataError, match="the range ends at"):
            read(parse_address(lines["c"] + beyond))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x.ark:5[3:1]", "is empty"),
        ("x.ark[a]", "not a range"),
        ("x.ark[1:2,3:4,5:6]", "not a range"),
        ("| gzip", "writes into a command"),
    ],
)
def test_addresses_that_are_none(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_address(text)


def test_a_command_is_told_from_a_file_and_its_failure_is_named() -> None:
    address = parse_address("exit 3 |")
    assert address.command
    with pytest.raises(DataError, match="code 3"):
        read(address)
    np.testing.assert_array_equal(read(parse_address("echo ' [ 1 2 ]' |")), [1, 2])
    ranged = parse_address("echo ' [ 1 2 3 ]' |[1:2]")
    assert ranged.command
    np.testing.assert_array_equal(read(ranged), [2, 3])


@pytest.mark.parametrize("content", [b"PKL" + pickle.dumps({}), b"NPY", b"RIFF", b"\0BXX "])
def test_nothing_but_kaldis_own_objects_is_loaded(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.ark").write_bytes(b"a " + content)
    with pytest.raises(DataError, match=r"x\.ark"):
        list(items(tmp_path / "x.ark"))


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("kind", ["array", "integers"])
def test_a_truncated_archive_names_itself_and_the_utterance(tmp_path: Path, kind: str, text: bool) -> None:
    path = tmp_path / "x.ark"
    if kind == "array":
        with Writer(f"ark{',t' if text else ''}:{path}") as write:
            for name, x in MATRICES.items():
                write(name, x)
    else:
        write_integers(path, {"a": np.arange(9), "c": np.arange(300)}, text=text)
    path.write_bytes(path.read_bytes()[:-7])
    found = items(path, kind)  # pyright: ignore[reportArgumentType]
    with pytest.raises(DataError, match=r"x\.ark cannot be read in c: it ends too early"):
        list(found)


def test_missing_files_and_offsets_beyond_the_end(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is missing"):
        list(items(tmp_path / "none.ark"))
    (tmp_path / "x.ark").write_bytes(b"a ")
    with pytest.raises(DataError, match="ends too early"):
        read(parse_address(f"{tmp_path}/x.ark:99"))


def test_the_writer_takes_kaldis_specifiers_and_runs_no_command(tmp_path: Path) -> None:
    with Writer(f"ark,scp:{tmp_path}/x.ark,{tmp_path}/x.scp") as write:
        for name, x in MATRICES.items():
            write(name, x)
    lines = [line.split() for line in (tmp_path / "x.scp").read_text().splitlines()]
    assert [name for name, _ in lines] == list(MATRICES)
    for name, place in lines:
        np.testing.assert_array_equal(read(parse_address(place)), MATRICES[name])
    for wrong in ("x.ark", "scp:x.scp", "ark,scp:x.ark", "ark:| gzip -c > x.gz", "ark:", "ark,q:x"):
        with pytest.raises(DataError):
            Writer(wrong)


@pytest.mark.real_data
class TestFiles:
    """All of ``kaldi/io``."""

    def test_features_plain_text_and_compressed_agree(self) -> None:
        plain, text = dict(items(KALDI / "io/feats.ark")), dict(items(KALDI / "io/feats_ascii.ark"))
        packed = dict(items(KALDI / "io/feats_compressed.ark"))
        assert len(plain) == len(packed) == 10
        assert len(text) == 2
        for name, x in plain.items():
            assert x.shape[1] == 13
            np.testing.assert_allclose(packed[name], x, atol=2e-5)
        for name, x in text.items():
            np.testing.assert_allclose(x, plain[name], atol=2e-5)

    def test_features_written_again_are_equal_bit_for_bit(self, tmp_path: Path) -> None:
        with Writer(f"ark:{tmp_path}/x.ark") as write:
            for name, x in items(KALDI / "io/feats.ark"):
                write(name, x)
        assert (tmp_path / "x.ark").read_bytes() == (KALDI / "io/feats.ark").read_bytes()

    def test_ranges_of_the_list(self) -> None:
        whole = dict(items(KALDI / "io/feats_ascii.ark"))["AMI_ES2011a_H00_FEE041_0003714_0003915"]
        wanted = {
            "[:]": whole,
            "[0:5]": whole[:6],
            "[:,7:13]": whole[:, 7:],  # the matrix has columns 0 to 12
            "[20:30,7:13]": whole[20:31, 7:],
        }
        for line in (KALDI / "io/feats_ascii.scp").read_text().splitlines()[2:]:
            place = line.split()[1]
            address = parse_address(place.replace("tests/data", str(KALDI / "io")))
            np.testing.assert_array_equal(read(address), wanted[place[place.index("[") :]])

    def test_alignments_in_binary_and_text_agree(self, tmp_path: Path) -> None:
        binary, text = (
            dict(items(KALDI / "io/ali.ark", "integers")),
            dict(items(KALDI / "io/ali_ascii.ark", "integers")),
        )
        assert list(binary) == list(text)
        for name, x in binary.items():
            np.testing.assert_array_equal(x, text[name])
        write_integers(tmp_path / "x.ark", binary)
        assert (tmp_path / "x.ark").read_bytes() == (KALDI / "io/ali.ark").read_bytes()

    def test_confidences_in_binary_by_list_and_in_text_agree(self) -> None:
        binary, text = dict(items(KALDI / "io/conf.ark")), dict(items(KALDI / "io/conf_ascii.ark"))
        lines = dict(line.split() for line in (KALDI / "io/conf.scp").read_text().splitlines())
        assert list(binary) == list(text) == list(lines)
        for name, x in binary.items():
            np.testing.assert_allclose(text[name], x, rtol=1e-5)
            place = lines[name].replace("tests/data", str(KALDI / "io"))
            np.testing.assert_array_equal(read(parse_address(place)), x)

    def test_confusion_networks_and_their_times(self) -> None:
        networks = dict(items(KALDI / "io/1.cnet", "posteriors"))
        times = dict(items(KALDI / "io/1.cntime", "pairs"))
        assert set(networks) <= set(times)
        for name, slots in networks.items():
            assert len(slots) == len(times[name])
            assert all(abs(sum(weight for _, weight in slot) - 1) < 1e-3 for slot in slots)
        assert all((x[:, 1] >= x[:, 0]).all() for x in times.values())


def test_a_stream_that_is_no_archive_is_refused() -> None:
    with pytest.raises(DataError, match="not text"):
        archive._token(io.BytesIO(b"\xff\xfe\xff "))
