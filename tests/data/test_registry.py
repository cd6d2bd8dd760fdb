"""Finding, downloading and verifying data files, against a server on this machine."""

from __future__ import annotations

import hashlib
import http.server
import os
import resource
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bnrnn.data import registry
from bnrnn.data.registry import DataError, DataFile

CONTENT = bytes(range(256)) * 41


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; a path with ``truncated`` announces more bytes than it sends."""

    def do_GET(self) -> None:
        if "truncated" not in self.path:
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[:1000])
        return None

    def log_message(self, format: str, *args: Any) -> None:
        """Keeps the test output quiet."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "good.bin").write_bytes(CONTENT)
    (folder / "bad.bin").write_bytes(CONTENT[::-1])
    handler = partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}/"
        httpd.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BNRNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("BNRNN_DATA", raising=False)
    return tmp_path / "cache"


def declare(monkeypatch: pytest.MonkeyPatch, *urls: str) -> DataFile:
    file = DataFile("set/file.bin", len(CONTENT), hashlib.sha256(CONTENT).hexdigest(), "none", urls)
    monkeypatch.setattr(registry, "FILES", {file.name: file})
    return file


def test_the_table_is_consistent() -> None:
    for name, file in registry.FILES.items():
        assert name == file.name
        assert "/" in name
        assert len(bytes.fromhex(file.sha256)) == 32
        assert file.size > 0
    assert [file.name for file in registry.files("ptb")] == [
        "ptb/ptb.train.txt",
        "ptb/ptb.valid.txt",
        "ptb/ptb.test.txt",
    ]
    with pytest.raises(DataError, match="'imagenet'; there are mnist, ptb, text8"):
        registry.files("imagenet")
    with pytest.raises(DataError, match="no data file is called 'mnist/x'"):
        registry.fetch("mnist/x")


def test_downloads_once_into_the_cache(server: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declare(monkeypatch, server + "absent.bin", server + "good.bin")
    assert registry.status()[0].state == "missing"
    path = registry.fetch("set/file.bin")
    assert path == cache / "set/file.bin"
    assert path.read_bytes() == CONTENT
    declare(monkeypatch)  # no address: must come from the cache
    assert registry.fetch("set/file.bin") == path
    assert [status.state for status in registry.verify("set")] == ["verified"]
    assert sorted(file.name for file in path.parent.iterdir()) == ["file.bin"]


@pytest.mark.parametrize(
    ("name", "message"),
    [("truncated", "truncated|IncompleteRead|broken"), ("bad.bin", "damaged: its SHA-256")],
)
def test_a_bad_download_leaves_nothing(
    server: str, cache: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    declare(monkeypatch, server + name)
    with pytest.raises(DataError, match=message) as caught:
        registry.fetch("set/file.bin")
    assert "\n" not in str(caught.value)
    assert str(cache / "set/file.bin") in str(caught.value)
    assert list((cache / "set").iterdir()) == []


def test_a_damaged_cached_file_is_fetched_anew(server: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declare(monkeypatch, server + "good.bin")
    path = registry.fetch("set/file.bin")
    path.write_bytes(CONTENT[:-1])
    assert registry.status()[0].state == "damaged"
    assert registry.get("set")[0].state == "verified"
    assert path.read_bytes() == CONTENT


def test_a_damaged_file_of_the_users_is_left_alone(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = declare(monkeypatch)
    folder = tmp_path / "data/set"
    folder.mkdir(parents=True)
    monkeypatch.setenv("BNRNN_DATA", str(tmp_path / "data"))
    wrong = CONTENT[::-1]
    (folder / "file.bin").write_bytes(wrong)
    with pytest.raises(DataError) as caught:
        registry.fetch("set/file.bin")
    for part in (str(folder / "file.bin"), file.sha256, hashlib.sha256(wrong).hexdigest(), "replace"):
        assert part in str(caught.value)
    assert (folder / "file.bin").read_bytes() == wrong
    (folder / "file.bin").write_bytes(CONTENT[:10])
    with pytest.raises(DataError, match="truncated: it has 10 bytes instead of 10,496"):
        registry.fetch("set/file.bin")


def test_a_missing_file_without_address_says_where_it_belongs(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = declare(monkeypatch)
    with pytest.raises(DataError, match="BNRNN_DATA") as caught:
        registry.fetch(file.name)
    assert str(cache / file.name) in str(caught.value)
    monkeypatch.setenv("BNRNN_DATA", str(tmp_path / "absent"))
    with pytest.raises(DataError, match="which is not a folder"):
        registry.fetch(file.name)


def test_a_known_file_is_not_read_again_until_it_changes(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = declare(monkeypatch)
    path = tmp_path / "data/set/file.bin"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    monkeypatch.setenv("BNRNN_DATA", str(tmp_path / "data"))
    registry.fetch(file.name)
    stat = path.stat()
    path.write_bytes(CONTENT[::-1])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert registry.status()[0].state == "verified"  # size and time are those of the verified file
    assert registry.verify()[0].state == "damaged"
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000_000))
    with pytest.raises(DataError, match="damaged"):
        registry.fetch(file.name)


def test_an_unwritable_cache_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    monkeypatch.setenv("BNRNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("BNRNN_DATA", raising=False)
    declare(monkeypatch, "http://127.0.0.1:9/nothing")
    with pytest.raises(DataError, match=r"cannot write to .*BNRNN_CACHE"):
        registry.fetch("set/file.bin")


def test_a_full_disk_names_the_file_and_leaves_no_part(
    server: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(monkeypatch, server + "good.bin")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # writing beyond fails as on a full disk
    try:
        with pytest.raises(DataError, match=r"cannot write .*set/file\.bin: File too large; make room"):
            registry.fetch("set/file.bin")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list((cache / "set").iterdir()) == []
