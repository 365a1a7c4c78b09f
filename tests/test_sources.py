"""sources: files below the root and none outside, URLs of public hosts and for a while only."""

from __future__ import annotations

import base64
import contextlib
import gzip
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from email.utils import formatdate, parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote, unquote

import pytest
from odd_pictures import is_plain

from datasette_image_search.catalog import Candidate
from datasette_image_search.collection.reading import Reader
from datasette_image_search.errors import SourceError
from datasette_image_search.pictures import Geometry
from datasette_image_search.sources import (
    Fetched,
    Sources,
    deadline,
    fetched,
    is_url,
    may_name_a_server,
    paths,
    patience,
    urls,
)
from datasette_image_search.sources.addresses import is_public
from datasette_image_search.sources.url import URL

POSIX = pytest.mark.skipif(os.name != "posix", reason="made for POSIX file systems")
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux takes any bytes")


def refusal(sources: Sources, value, known=None) -> str:
    with pytest.raises(SourceError) as caught:
        sources.fetch(value, known)
    assert is_plain(str(caught.value)), caught.value
    return str(caught.value)


# -- files ----------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path) -> Path:
    """A folder of pictures with a secret beside it."""
    (tmp_path / "secret.png").write_bytes(b"secret")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.png").write_bytes(b"secret")
    root = tmp_path / "root"
    (root / "inner").mkdir(parents=True)
    (root / "a.png").write_bytes(b"picture a")
    (root / "inner" / "b.png").write_bytes(b"picture b")
    return root


def test_a_path_below_the_root_is_read(root):
    sources = Sources(root)
    assert sources.root == Path(os.path.realpath(root))
    for value in ("a.png", "./a.png", "inner/../a.png", "inner//../a.png", str(root / "a.png")):
        assert sources.fetch(value).data == b"picture a"
    assert sources.fetch("inner/b.png").data == b"picture b"


def test_a_relative_root_is_where_it_was(root, monkeypatch):
    monkeypatch.chdir(root.parent)
    sources = Sources(Path("root"))
    monkeypatch.chdir("/")
    assert sources.fetch("a.png").data == b"picture a"


@pytest.mark.parametrize(
    "value",
    [
        "../secret.png",
        "inner/../../secret.png",
        "inner/../..",
        "..",
        "/etc/passwd",
        "//etc/passwd",
        "//server/share/a.png",
        "../root-beside/a.png",
        "{outside}/secret.png",
        "../" * 60 + "etc/passwd",
    ],
)
def test_a_path_cannot_leave_the_root(root, value):
    (root.parent / "root-beside").mkdir()
    (root.parent / "root-beside" / "a.png").write_bytes(b"secret")
    value = value.format(outside=root.parent / "outside")
    sources = Sources(root)
    assert "lies outside the folder" in refusal(sources, value)
    assert not sources.unchanged(value, "file 6 1")


@pytest.mark.parametrize("value", ["ftp://host/a.png", "a.png\0.jpg", "data://x", "\0"])
def test_what_is_no_path_is_not_taken_for_one(root, value):
    assert "is not a path, and only http and https URLs are read" in refusal(Sources(root), value)


@pytest.mark.parametrize("value", [5, 1.5, b"x" * 999])
def test_what_is_no_text_is_not_a_source(root, value):
    assert "is neither a path nor a URL nor a BLOB" in refusal(Sources(root), value)
    assert not Sources(root).unchanged(value, "file 9 1")


def test_what_is_not_there_is_said(root):
    assert refusal(Sources(root), "no.png") == f"'no.png' is not in the folder {root.name}."
    assert "is not in the folder" in refusal(Sources(root), "no/a.png")
    assert "not a directory" in refusal(Sources(root), "a.png/b.png")


@pytest.mark.parametrize(
    "value", [r"\\server\share\a.png", r"\/server/share/a.png", r"\??\UNC\server\share\a.png"]
)
def test_a_share_of_a_network_is_not_read(root, value):
    """To Windows it lies outside, unasked; elsewhere it is a name like any other."""
    assert may_name_a_server(value)
    said = refusal(Sources(root), value)
    assert ("lies outside" if os.name == "nt" else "is not in the folder") in said


@pytest.mark.parametrize(
    "value", [" inner/b.png", "inner/b.png\n", r"inner\b.png", "\tinner\\b.png ", "./inner/b.png"]
)
def test_a_path_may_be_spelled_as_others_do(root, value):
    sources = Sources(root)
    read = sources.fetch(value)
    assert read.data == b"picture b" and sources.unchanged(value, read.fingerprint)
    assert sources.fetch(value, read.fingerprint).data is None


def test_what_is_wrong_with_a_file_is_said_however_its_path_is_spelled(root, monkeypatch):
    monkeypatch.setattr(fetched, "MAX_BYTES", 8)
    for value in (" inner/b.png", r"inner\b.png"):
        assert refusal(Sources(root), value).startswith(f"{value!r} has 9 bytes or more")


@POSIX
def test_a_path_that_is_there_is_not_taken_for_another(root):
    (root / " a.png").write_bytes(b"with a space")
    (root / r"inner\b.png").write_bytes(b"with a backslash")
    for name in (" a.png", r"inner\b.png"):
        assert Sources(root).fetch(name).data == (root / name).read_bytes()


def test_letters_are_written_in_two_ways(root):
    for written, asked in (("\u00e4.png", "a\u0308.png"), ("o\u0308.png", "\u00f6.png")):
        (root / written).write_bytes(written.encode())
        assert Sources(root).fetch(asked).data == written.encode()


def test_a_path_that_a_page_would_have_is_told_what_to_leave_out(root):
    for value in ("/a.png", "/inner/b.png"):
        assert refusal(Sources(root), value).endswith(
            f"lies outside the folder {root.name}, where {value[1:]!r} is: leave the slash out."
        ), value
    assert refusal(Sources(root), "/inner").endswith(f"lies outside the folder {root.name}.")


@POSIX
@pytest.mark.parametrize(
    "gone, there, shown",
    [
        ("caf\u00e9.png", "cafe\u0301.png", r"'cafe\u0301.png'"),
        ("cafe\u0301.png", "caf\u00e9.png", r"'caf\xe9.png'"),
        (" a.png", "a.png", "'a.png'"),
        (r"inner\b.png", "inner/b.png", "'inner/b.png'"),
    ],
)
def test_what_another_row_names_exactly_is_not_taken_for_a_file_that_has_gone(
    root, gone, there, shown
):
    """A wrong picture is worse than none."""
    (root / there).write_bytes(b"another row's")
    alone = Sources(root, values=lambda: [gone, None, "http://host/a.png", "no.png"])
    read = alone.fetch(gone)
    assert read.data == b"another row's" and alone.unchanged(gone, read.fingerprint)
    for spelled in (there, f"./{there}", str(root.resolve() / there)):
        sources = Sources(root, values=lambda own=spelled: [gone, own])
        assert f"in the folder {root.name}, but {shown} is, which another row names" in (
            refusal(sources, gone)
        )
        assert not sources.unchanged(gone, read.fingerprint)
        assert not sources.changed(gone, "file 1 1") and not sources.may_be_there(gone)
        assert sources.fetch(spelled).data == b"another row's"


def test_the_rows_are_gone_through_for_other_spellings_alone_and_once(root):
    asked = []
    sources = Sources(root, values=lambda: asked.append(1) or ["inner/c.png"])
    sources.fetch("a.png")
    for value in (" caf\u00e9.png", "  ", "inner "):
        assert "another row" not in refusal(sources, value)
    assert not asked
    for _ in range(3):
        sources.fetch(" a.png")
    assert asked == [1]


@pytest.mark.parametrize("value", [r" ..\secret.png", " ../secret.png", r"inner\..\..\secret.png"])
def test_nor_does_another_spelling_leave_the_root(root, value):
    assert (root.parent / "secret.png").exists()
    said = refusal(Sources(root), value)
    assert "is not in the folder" in said or "lies outside" in said


@pytest.mark.parametrize("value", ["", ".", "inner", "inner/", "inner/.."])
def test_a_folder_is_no_picture(root, value):
    assert "is a folder, not a file" in refusal(Sources(root), value)


@POSIX
def test_links_are_followed_within_the_root_only(root):
    (root / "link.png").symlink_to("inner/b.png")
    (root / "folder").symlink_to("inner")
    (root / "out.png").symlink_to(root.parent / "secret.png")
    (root / "out").symlink_to(root.parent / "outside")
    (root / "inner" / "up").symlink_to("../..")
    (root / "twice.png").symlink_to("out.png")
    sources = Sources(root)
    for value in ("link.png", "folder/b.png", "folder/../inner/b.png"):
        assert sources.fetch(value).data == b"picture b"
    outside = f" that leads outside the folder {sources.root.name}: put the file itself there."
    for value in ("out.png", "out/secret.png", "inner/up/secret.png", "twice.png", "out"):
        what = "lies in a linked folder" if "/" in value else "is a link"
        assert refusal(sources, value) == f"'{value}' {what}{outside}"
        assert not sources.unchanged(value, sources.fetch("a.png").fingerprint)


@POSIX
def test_a_root_that_is_a_link_is_where_it_leads(root):
    link = root.parent / "link"
    link.symlink_to(root)
    sources = Sources(link)
    assert sources.fetch("a.png").data == b"picture a"
    assert sources.fetch(str(link / "a.png")).data == b"picture a"


@POSIX
def test_a_link_that_leads_to_itself_is_refused(root):
    (root / "loop.png").symlink_to("loop.png")
    (root / "one").symlink_to("two")
    (root / "two").symlink_to("one")
    assert "symbolic links" in refusal(Sources(root), "loop.png")
    assert "symbolic links" in refusal(Sources(root), "one/a.png")


@POSIX
def test_a_folder_that_becomes_a_link_leads_nowhere(root):
    """What is remembered of folders serves unchanged() alone; reading looks anew."""
    sources = Sources(root)
    b = sources.fetch("inner/b.png")
    assert sources.unchanged("inner/b.png", b.fingerprint)  # now the folder is remembered
    (root / "inner").rename(root / "elsewhere")
    (root / "inner").symlink_to(root.parent / "outside")
    (root.parent / "outside" / "b.png").write_bytes(b"secret")
    assert "leads outside the folder" in refusal(sources, "inner/b.png")
    assert "leads outside the folder" in refusal(Sources(root), "inner/b.png")


@POSIX
def test_a_file_that_becomes_a_link_between_check_and_reading_is_not_followed(root, monkeypatch):
    sources = Sources(root)
    monkeypatch.setattr(sources._files, "path", lambda value: root / value)  # the check is past
    (root / "a.png").unlink()
    (root / "a.png").symlink_to(root.parent / "secret.png")
    assert "cannot be read" in refusal(sources, "a.png")


@POSIX
@pytest.mark.parametrize("depth", [1, 2, 5])
def test_a_folder_that_becomes_a_link_between_check_and_reading_is_not_gone_through(
    root, monkeypatch, depth
):
    """Any folder on the way: the link leads to a file of the same name."""
    folder, outside = root, root.parent / "outside"
    for number in range(depth):
        folder, outside = folder / f"f{number}", outside / f"f{number}"
    outside.mkdir(parents=True)
    (outside / "a.png").write_bytes(b"secret")
    value = "/".join([f"f{number}" for number in range(depth)] + ["a.png"])
    for number in range(depth):
        way = [f"f{i}" for i in range(depth)]
        shutil.rmtree(root / "f0", ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "a.png").write_bytes(b"picture")
        sources = Sources(root)
        assert sources.fetch(value).data == b"picture"
        swapped = root.joinpath(*way[: number + 1])
        shutil.rmtree(swapped)
        swapped.symlink_to((root.parent / "outside").joinpath(*way[: number + 1]))
        assert (root / value).read_bytes() == b"secret"
        monkeypatch.setattr(sources._files, "path", lambda value: root / value)  # past the check
        assert "cannot be read" in refusal(sources, value)
        swapped.unlink()


@LINUX
def test_a_folder_that_may_only_be_passed_through_is():
    """By nobody, as above: root may read everything."""
    folder = Path(tempfile.mkdtemp())
    was = os.geteuid()
    try:
        folder.chmod(0o711)
        (folder / "inner").mkdir(mode=0o711)
        (folder / "inner" / "b.png").write_bytes(b"picture b")
        if was == 0:
            os.seteuid(65534)
        assert Sources(folder).fetch("inner/b.png").data == b"picture b"
    finally:
        os.seteuid(was)
        shutil.rmtree(folder)


@LINUX
@pytest.mark.parametrize(
    "value",
    ["/proc/self/environ", "/proc/self/fd/0", "/dev/stdin", "/dev/fd/0", "/dev/zero",
     "../../../../../../../../../proc/self/environ", "inner/../../../../../../../../dev/stdin"],
)  # fmt: skip
def test_what_the_system_shows_as_files_is_outside(root, value):
    assert "lies outside the folder" in refusal(Sources(root), value)
    (root / "link.png").symlink_to(os.path.join(root, value))
    assert "is a link that leads outside the folder" in refusal(Sources(root), "link.png")


@POSIX
def test_what_would_wait_for_ever_is_not_opened(root, monkeypatch):
    os.mkfifo(root / "fifo.png")
    monkeypatch.chdir(root)  # a socket's whole path may be too long for one
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket.png")
        monkeypatch.setattr(paths.os, "open", None)  # not even for a moment
        for name in ("fifo.png", "socket.png"):
            assert "is not a file with contents" in refusal(Sources(root), name)
    assert "is not a file with contents" in refusal(Sources(Path("/dev")), "null")
    assert "is not a file with contents" in refusal(Sources(Path("/dev")), "zero")


@POSIX
def test_a_fifo_put_in_a_files_place_does_not_keep_us_waiting(root, monkeypatch):
    ordinary = os.stat(root / "a.png")
    (root / "a.png").unlink()
    os.mkfifo(root / "a.png")
    monkeypatch.setattr(paths.os, "stat", lambda path: ordinary)
    assert "is not a file with contents" in refusal(Sources(root), "a.png")


@POSIX
def test_a_file_that_may_not_be_read_is_refused():
    """Root may read everything, so for a moment these tests are nobody."""
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o755)
        (folder / "closed").mkdir()
        for name in ("a.png", "closed/b.png"):
            (folder / name).write_bytes(b"picture")
        (folder / "a.png").chmod(0)
        (folder / "closed").chmod(0)
        sources = Sources(folder)
        was = os.geteuid()
        if was == 0:
            os.seteuid(65534)
        try:
            reasons = [refusal(sources, name) for name in ("a.png", "closed/b.png")]
            assert not sources.unchanged("closed/b.png", "file 7 1")
        finally:
            if was == 0:
                os.seteuid(0)
        assert reasons == ["'a.png' may not be read.", "'closed/b.png' may not be read."]
    finally:
        (folder / "closed").chmod(0o755)
        shutil.rmtree(folder)


@LINUX
@pytest.mark.parametrize(
    "name",
    [
        b"gr\xfcn.png",  # Latin-1, of an old disk
        "grün 🎨.png".encode(),
        b'it\'s "quoted".png',
        b"two\nlines\r.png",
        b"<script>alert(1)<.png",
        b"x" * 250 + b".png",
        b" spaces .png",
        b"-rf.png",
        b"100%.png",
        b"a\\b.png",
        b"\x1b[31mred.png",
    ],
)
def test_a_file_may_have_any_name(root, name):
    path = os.fsencode(root) + b"/" + name
    with open(path, "wb") as file:
        file.write(b"named")
    sources = Sources(root)
    value = os.fsdecode(name)
    assert sources.fetch(value).data == b"named"
    os.unlink(path)
    assert "is not in the folder" in refusal(sources, value)


@pytest.mark.parametrize(
    "value", ["x" * 300 + ".png", "x/" * 3000, "/" + "x" * 10**6, "\ud800.png", "in\ud800/a"]
)
def test_a_name_that_no_file_can_have_is_refused(root, value):
    assert len(refusal(Sources(root), value)) < 600
    assert not Sources(root).unchanged(value, "file 9 1")


def test_a_large_file_is_refused_unread(root, monkeypatch):
    with open(root / "a.png", "wb") as file:
        file.truncate(fetched.MAX_BYTES + 1)  # of holes: it takes no room
    assert refusal(Sources(root), "a.png") == (
        "'a.png' has 268,435,457 bytes or more; 268,435,456 are the most that are read."
    )
    monkeypatch.setattr(fetched, "MAX_BYTES", 9)
    (root / "a.png").write_bytes(b"123456789")
    assert Sources(root).fetch("a.png").data == b"123456789"


def test_a_file_is_read_again_once_it_has_changed(root):
    sources = Sources(root)
    first = sources.fetch("a.png")
    assert sources.unchanged("a.png", first.fingerprint)
    assert sources.fetch("a.png", first.fingerprint) == Fetched(None, first.fingerprint)
    assert not sources.unchanged("a.png", None)
    os.utime(root / "a.png", ns=(1, 1))
    assert not sources.unchanged("a.png", first.fingerprint)
    second = sources.fetch("a.png", first.fingerprint)
    assert second == Fetched(b"picture a", "file 9 1")
    (root / "a.png").write_bytes(b"longer than it was")
    os.utime(root / "a.png", ns=(1, 1))
    assert not sources.unchanged("a.png", second.fingerprint)
    (root / "a.png").unlink()
    assert not sources.unchanged("a.png", second.fingerprint)


@pytest.mark.parametrize("change", ["grows", "shrinks", "is replaced in place"])
def test_a_file_that_changes_while_it_is_read_is_refused(root, monkeypatch, change):
    path, changed = root / "a.png", []
    fstat = os.fstat

    def change_after(descriptor):
        """The first look at the open file is still right; what is read then is not."""
        found = fstat(descriptor)
        if not changed:
            changed.append(change)
            if change == "shrinks":
                os.truncate(path, 3)
            else:
                with open(path, "ab" if change == "grows" else "r+b") as file:
                    file.write(b"new")
            os.utime(path, ns=(5, 5))
        return found

    monkeypatch.setattr(paths.os, "fstat", change_after)
    assert "was changed while it was read" in refusal(Sources(root), "a.png")
    monkeypatch.undo()
    assert Sources(root).fetch("a.png").fingerprint.endswith(" 5")


def test_a_file_that_vanishes_is_not_there(root, monkeypatch):
    stat = os.stat

    def vanish_after(path):
        found = stat(path)
        (root / "a.png").unlink()
        return found

    monkeypatch.setattr(paths.os, "stat", vanish_after)
    assert "is not in the folder" in refusal(Sources(root), "a.png")


@LINUX
def test_refusals_leave_no_file_open(root):
    sources = Sources(root)
    (root / "large.png").write_bytes(b"")
    before = len(os.listdir("/proc/self/fd"))
    for value in ("inner", "no.png", "", "a.png", "../secret.png") * 5:
        with contextlib.suppress(SourceError):
            sources.fetch(value)
    assert len(os.listdir("/proc/self/fd")) == before


# -- the web --------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    """A server as one meets them: each path is another misbehaviour."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def reply(self, status=200, body=b"", **headers):
        self.send_response(status)
        headers.setdefault("Content_Length", str(len(body)))
        for name, value in headers.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def do_GET(self):
        self.server.asked.append((self.path, dict(self.headers)))
        name, _, rest = self.path[1:].partition("/")
        getattr(self, f"do_{name}", self.do_picture)(rest)

    def do_picture(self, rest):
        self.reply(body=b"picture")

    def do_status(self, rest):
        self.send_response(int(rest), "Any <b>words</b> the server likes")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_often(self, rest):
        """/often/STATUS/HEADER: too often, as many times as `refusals` says."""
        status, _, header = rest.partition("?")[0].partition("/")
        if self.server.refusals:
            self.server.refusals -= 1
            self.reply(int(status), Retry_After=unquote(header) or None)
        else:
            self.reply(body=b"at last")

    def do_etag(self, rest):
        same = self.headers["If-None-Match"] == self.server.etag
        self.reply(304 if same else 200, b"" if same else b"tagged", ETag=self.server.etag)

    def do_modified(self, rest):
        moment, body = self.server.modified
        asked = self.headers["If-Modified-Since"]
        same = asked is not None and parsedate_to_datetime(moment) <= parsedate_to_datetime(asked)
        self.reply(304 if same else 200, b"" if same else body, Last_Modified=moment)

    def do_latest(self, rest):
        self.reply(302, Location=self.server.latest)

    def do_to(self, rest):
        """/to/307/URL leads to the URL."""
        status, _, location = rest.partition("/")
        self.reply(int(status), Location=location)

    def do_loop(self, rest):
        self.reply(302, Location=f"/loop/{int(rest or 0) + 1}")

    def do_same(self, rest):
        self.reply(302, Location="/same")

    def do_chunked(self, rest):
        self.reply(
            body=b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
            Transfer_Encoding="chunked",
            Content_Length=None,
        )

    def do_gzip(self, rest):
        packed = gzip.compress(b"picture" * 99, mtime=0)
        bodies = {
            "half": packed[:-9],
            "damaged": packed[:12] + b"?" * 9 + packed[21:],
            "plain": b"picture",
        }
        self.reply(body=bodies.get(rest, packed), Content_Encoding="gzip")

    def do_brokenchunk(self, rest):
        self.close_connection = True
        self.reply(body=b"ff\r\nabc", Transfer_Encoding="chunked", Content_Length=None)

    def do_short(self, rest):
        self.close_connection = True
        self.reply(body=b"only this", Content_Length="1000")

    def do_announced(self, rest):
        self.close_connection = True
        self.reply(body=b"x", Content_Length=str(10 * 2**30))

    def do_endless(self, rest):
        self.close_connection = True
        self.reply(Content_Length=None)
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(b"x" * 2**16)
                self.server.sent += 2**16

    def do_drip(self, rest):
        """A byte now and then: each comes in time, all of them never."""
        self.close_connection = True
        if rest == "head":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        else:
            self.reply(Content_Length="1000000")
        with contextlib.suppress(OSError):
            while not self.server.closing.wait(0.05):
                self.wfile.write(b"x")

    def do_hang(self, rest):
        self.close_connection = True
        self.server.closing.wait(20)

    def do_nothing(self, rest):
        self.close_connection = True

    def do_nonsense(self, rest):
        self.close_connection = True
        self.wfile.write(b"220 mail.example ESMTP\r\n")

    def do_cut(self, rest):
        """/cut/HEAD: the connection closes before the head's end."""
        self.close_connection = True
        self.wfile.write(b"HTTP/1.1 " + unquote(rest).encode())

    def do_longheader(self, rest):
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n")

    def do_oddtag(self, rest):
        self.reply(body=b"tagged", ETag='"t\xe4g\x07"', Last_Modified="x" * 5000)


@contextlib.contextmanager
def serving(host="127.0.0.1", context: ssl.SSLContext | None = None):
    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        daemon_threads = True
        block_on_close = False

        def handle_error(self, request, client_address):
            pass  # clients here hang up, as they should

    with Server((host, 0), Handler) as server:
        server.asked, server.sent, server.etag = [], 0, '"one"'
        server.refusals = 0
        server.modified = "Wed, 21 Oct 2015 07:28:00 GMT", b"dated"
        server.closing = threading.Event()
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        scheme = "http" if context is None else "https"
        name = f"[{host}]" if ":" in host else host
        server.url = f"{scheme}://{name}:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()


@pytest.fixture
def server():
    with serving() as server:
        yield server


@pytest.fixture
def web(tmp_path):
    return Sources(tmp_path, allow_private=True)


def test_a_url_is_http_or_https():
    assert is_url("http://x/a.png")
    assert is_url("HTTPS://x/a.png")
    assert is_url(" \t\nhttp://x/a.png ")
    assert not any(map(is_url, ("ftp://x", "file:///x", "http.png", "//x/a.png", "", " http")))


def test_a_url_is_read(web, server):
    assert web.fetch(f"{server.url}/a.png") == Fetched(b"picture", "url")
    assert web.fetch(f"{server.url}/chunked").data == b"abcde"
    ((path, headers), _) = server.asked
    assert path == "/a.png"
    assert headers["User-Agent"] == "datasette-image-search"
    assert headers["Host"] == server.url.removeprefix("http://")
    assert not web.unchanged(f"{server.url}/a.png", "url")


def test_urls_are_written_as_people_write_them(web, server):
    web.fetch(f"{server.url}/grün und 'blau'.png?a=1&b=ü#top")
    web.fetch(f"{server.url}/already%20right.png")
    web.fetch(server.url)
    web.fetch(f"{server.url.upper()}/a.png")
    web.fetch(f"  {server.url}/a.png\n")
    paths_asked = [path for path, _ in server.asked]
    assert paths_asked == [
        "/gr%C3%BCn%20und%20'blau'.png?a=1&b=%C3%BC", "/already%20right.png", "/", "/a.png",
        "/a.png",
    ]  # fmt: skip


def test_a_host_is_asked_for_by_the_name_that_name_servers_know():
    for written in ("http://bücher.example/a.png", "http://BÜCHER.example/a.png"):
        url = URL.parse(f" {written} ")
        assert url.target == "/a.png"
        assert url.host == url.headers["Host"] == "xn--bcher-kva.example"


@pytest.mark.parametrize(
    "written, port, server",
    [
        ("http://a.example", 80, "a.example"),
        ("http://a.example:80/", 80, "a.example"),
        ("http://a.example:443/", 443, "a.example:443"),
        ("https://a.example/", 443, "a.example"),
        ("https://a.example:443/", 443, "a.example"),
        ("https://a.example:80/", 80, "a.example:80"),
        ("http://[::1]/", 80, "[::1]"),
    ],
)
def test_a_port_is_the_usual_one_unless_it_is_said(written, port, server):
    url = URL.parse(written)
    assert (url.port, url.server) == (port, server)


@pytest.mark.parametrize(
    "value",
    [
        "http://",
        "http:///a.png",
        "https://:80/a.png",
        "http://[::1/a.png",
        "http://[nonsense]/a.png",
        "http://host:port/a.png",
        "http://host:99999/a.png",
        "http://user:secret@host:port/a.png",
        "http://user:secret@/a.png",
        "http://user:se@cret@[/a.png",
        "http://" + "ü" * 200 + "/",
    ],
)
def test_a_url_that_makes_no_sense_is_refused(web, value):
    said = refusal(web, value)
    assert "is not a URL that can be read" in said
    assert "secret" not in said


@pytest.mark.parametrize(
    "host", ["no.invalid", "x" * 64 + ".invalid", "a..b", "white space", "per%00cent", "quo'te"]
)
def test_a_host_that_there_is_not_is_refused(web, host, monkeypatch):
    def nowhere(*args, **options):
        args[0].encode("idna")  # as it does
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(urls.socket, "getaddrinfo", nowhere)
    assert refusal(web, f"http://{host}/a.png").endswith(": the name of its host leads nowhere.")


def test_a_server_that_is_not_there_is_named(web):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/a.png"
        assert refusal(web, url) == f"{url} cannot be fetched: connection refused."


@pytest.mark.parametrize(
    "status, said",
    [(404, "404 Not Found"), (500, "500 Internal Server Error"), (403, "403 Forbidden"),
     (300, "300 Multiple Choices"), (304, "304 Not Modified"), (302, "302 Found"), (799, "799")],
)  # fmt: skip
def test_what_a_server_answers_is_said_in_our_words(web, server, status, said):
    url = f"{server.url}/status/{status}"
    assert refusal(web, url) == f"{url} answers {said}."


@pytest.mark.parametrize(
    "path, said",
    [
        ("nothing", "cannot be fetched: its server closed the connection without an answer."),
        ("nonsense", "cannot be fetched: its server's answer makes no sense."),
        ("longheader", "cannot be fetched: its server's answer makes no sense."),
        ("brokenchunk", "cannot be fetched: its server broke off."),
        ("short", "ends after 9 of 1,000 bytes."),
    ],
)
def test_a_server_that_misbehaves_is_refused(web, server, path, said):
    assert refusal(web, f"{server.url}/{path}") == f"{server.url}/{path} {said}"


@pytest.mark.parametrize(
    "head",
    [
        "200 OK",
        "200 OK\r\n",
        "200 OK\r\nContent-Type: image/p",
        "200 OK\r\nContent-Length: 0\r\n",
        "302 Found\r\nLocation: /a",  # of /another.png
        "404 Not Found\r\n",
    ],
)
def test_an_answer_without_the_end_of_its_head_is_none(web, server, head):
    url = f"{server.url}/cut/{quote(head)}"
    assert refusal(web, url) == f"{url} cannot be fetched: its server broke off."
    assert len(server.asked) == 1


@pytest.fixture
def waits(monkeypatch):
    """How long was waited, for a server that wants it: without waiting."""
    waits = []

    class Event(threading.Event):
        def wait(self, seconds):
            waits.append(seconds)
            return False

    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + sum(waits), time=time.time)
    monkeypatch.setattr(patience, "threading", SimpleNamespace(Event=Event, Lock=threading.Lock))
    for module in (patience, urls, deadline):
        monkeypatch.setattr(module, "time", clock)
    return waits


@pytest.mark.parametrize(
    "path, expected",
    [
        ("/often/429/7", [7, 7, 7]),
        ("/often/429/", [1, 2, 4]),
        ("/often/429/soon", [1, 2, 4]),
        ("/often/503/20", [20, 20, 20]),
        ("/often/429/0", [1, 2, 4]),
        ("/often/429/Wed, 21 Oct 2015 07:28:00 GMT", [1, 2, 4]),
        ("/often/429/Fri, 31 Dec 99999999999999999999 23:59:59 GMT", [1, 2, 4]),
        ("/often/429/-5", [1, 2, 4]),
    ],
)
def test_a_server_that_is_asked_too_often_is_asked_again(web, server, waits, path, expected):
    server.refusals, told = 3, []
    web = Sources(web.root, allow_private=True, told=told.append)  # after the clock was changed
    assert web.fetch(server.url + path).data == b"at last"
    assert waits == pytest.approx(expected, abs=0.5)
    assert len(told) == len(expected)
    if told:
        waited = f"waits {expected[0]} s for 127.0.0.1:{server.server_port}, which answers "
        assert told[0].startswith(waited)


def test_a_server_that_has_enough_is_left(web, server, waits):
    web, name = Sources(web.root, allow_private=True), f"127.0.0.1:{server.server_port}"
    server.refusals = 99
    enough = f"{name} answers 429 Too Many Requests and goes on doing so: run embed again later."
    for number in range(patience.MOST_URLS):
        assert refusal(web, f"{server.url}/often/429/30?{number}") == enough
    assert waits[: patience.MOST_TRIES] == pytest.approx([30] * patience.MOST_TRIES, abs=0.5)
    asked = len(server.asked)
    assert refusal(web, f"{server.url}/a.png") == enough
    assert len(server.asked) == asked, "it is not asked for other pictures either"


def test_a_server_that_wants_hours_is_not_waited_for(web, server, waits):
    server.refusals = 99
    web = Sources(web.root, allow_private=True)
    for number in range(patience.MOST_URLS):
        said = refusal(web, f"{server.url}/often/503/3600?{number}")
        assert "answers 503 Service Unavailable and asks to be left alone for 3,600 seconds" in said
    assert refusal(web, f"{server.url}/a.png") == said and not waits


@pytest.mark.parametrize("path", ["/often/503/1", "/often/429/0", "/often/429/3600"])
def test_one_url_that_is_always_refused_is_not_the_server(web, server, waits, path):
    web = Sources(web.root, allow_private=True)
    for number in range(3 * patience.MOST_URLS):
        server.refusals = 99
        refusal(web, f"{server.url}{path}?{number}")
        asked = len(server.asked)
        server.refusals = 0
        assert web.fetch(f"{server.url}/a.png").data == b"picture"
    assert asked <= 3 * patience.MOST_URLS * (patience.MOST_TRIES + 2)


def test_a_server_without_a_wish_is_not_asked_again(web, server):
    server.refusals = 1
    assert "answers 503 Service Unavailable" in refusal(web, f"{server.url}/often/503/")


def test_what_others_asked_at_the_same_time_is_one_refusal():
    told = []
    once = patience.Patience(told.append)
    for _ in range(20):
        once.refused("a.example", "429 Too Many Requests", None, 1)
    assert told == ["waits 1 s for a.example, which answers 429 Too Many Requests."]


def test_a_shorter_wish_does_not_cut_a_longer_one_short(waits):
    """Two were asked at the same time; the server meant both answers."""
    patient = patience.Patience()
    patient.refused("a.example", "429 Too Many Requests", "50", 1)
    patient.refused("a.example", "429 Too Many Requests", "5", 1)
    assert patient.wait("a.example") and waits == pytest.approx([50], abs=0.5)


@POSIX
@pytest.mark.parametrize("zone", [" GMT", " -0000", ""])
def test_a_date_is_one_of_greenwich_wherever_we_are(monkeypatch, zone):
    moment = formatdate(time.time() + 100).removesuffix(" -0000") + zone
    monkeypatch.setenv("TZ", "XYZ-9")
    time.tzset()
    try:
        assert patience._seconds(moment) == pytest.approx(100, abs=5)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_lookup_that_lasts_can_be_broken_off(web, monkeypatch):
    waiting, go_on = threading.Event(), threading.Event()

    def slow(*_, **__):
        waiting.set()
        go_on.wait(20)

    monkeypatch.setattr(urls.socket, "getaddrinfo", slow)
    said = []
    thread = threading.Thread(target=lambda: said.append(refusal(web, "http://slow.example/")))
    thread.start()
    assert waiting.wait(20)
    web.close()
    thread.join(5)
    assert len(said) == 1
    go_on.set()
    refusal(web, "http://slow.example/")


def test_what_is_being_fetched_can_be_broken_off(web, server, secure_server, monkeypatch):
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    trusting.sslsocket_class = urls.SecureSocket
    monkeypatch.setattr(urls.Web, "_certificates", trusting)
    server.refusals = 1
    paths = [f"{server.url}/hang", f"{server.url}/often/429/50", f"{secure_server.url}/drip/head"]
    said = []
    threads = [
        threading.Thread(target=lambda url=url: said.append(refusal(web, url))) for url in paths
    ]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(server.asked) == 2 and len(secure_server.asked) == 1)
    begun = time.monotonic()
    web.close()
    for thread in threads:
        thread.join(20)
    assert time.monotonic() - begun < 5 and len(said) == 3
    refusal(web, f"{server.url}/a.png")


def wait_until(is_so, seconds=20):
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_long_url_is_shortened_in_a_refusal(web, server):
    said = refusal(web, f"{server.url}/status/404/" + "x" * 5000)
    assert len(said) < 300


def test_what_is_sent_in_gzip_unasked_is_unpacked(web, server, monkeypatch):
    assert web.fetch(f"{server.url}/gzip/whole").data == b"picture" * 99
    assert web.fetch(f"{server.url}/gzip/plain").data == b"picture"
    for path, said in (("half", "ends too early"), ("damaged", "is damaged")):
        url = f"{server.url}/gzip/{path}"
        assert refusal(web, url) == f"{url} is sent in gzip, which {said}."
    monkeypatch.setattr(fetched, "MAX_BYTES", 600)
    assert "601 bytes or more; 600 are the most" in refusal(web, f"{server.url}/gzip/whole")


def test_no_more_is_read_than_the_limit(web, server, monkeypatch):
    url = f"{server.url}/announced"
    assert refusal(web, url).startswith(f"{url} has 10,737,418,240 bytes or more; 268,435,456 ")
    monkeypatch.setattr(fetched, "MAX_BYTES", 2**20)
    assert "1,048,576 are the most that are read" in refusal(web, f"{server.url}/endless")
    assert server.sent < 2**26


@pytest.mark.parametrize("path", ["hang", "drip/head", "drip/body"])
def test_a_server_that_is_slow_is_left_in_time(web, server, monkeypatch, path):
    monkeypatch.setattr(urls, "URL_SECONDS", 0.4)
    start = time.monotonic()
    said = refusal(web, f"{server.url}/to/302/{server.url}/{path}")
    assert said.endswith(" was not read within 0.4 seconds.")
    assert time.monotonic() - start < 5


def test_a_name_server_that_never_answers_is_left_in_time(web, monkeypatch):
    answered = threading.Event()
    monkeypatch.setattr(urls, "URL_SECONDS", 0.3)
    monkeypatch.setattr(urls.socket, "getaddrinfo", lambda *args, **options: answered.wait(20))
    start = time.monotonic()
    said = refusal(web, "http://slow.example/a.png")
    assert said == "http://slow.example/a.png was not read within 0.3 seconds."
    assert time.monotonic() - start < 5
    answered.set()


def test_a_server_that_never_answers_a_greeting_is_left_in_time(web, monkeypatch):
    monkeypatch.setattr(urls, "URL_SECONDS", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        for scheme in ("http", "https"):
            url = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}/a.png"
            assert refusal(web, url) == f"{url} was not read within 0.3 seconds."


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="fills a queue as Linux has it")
def test_an_address_where_nobody_answers_does_not_use_up_the_time_of_the_next(
    web, server, monkeypatch
):
    look_up = socket.getaddrinfo

    def two_addresses(host, port, **options):
        return look_up("127.0.0.2", port, **options) + look_up("127.0.0.1", port, **options)

    monkeypatch.setattr(urls.socket, "getaddrinfo", two_addresses)
    monkeypatch.setattr(urls, "ADDRESS_SECONDS", 0.3)
    with socket.socket() as dead, contextlib.ExitStack() as waiting:
        dead.bind(("127.0.0.2", server.server_port))
        dead.listen(0)
        for _ in range(4):  # more than its queue holds: who comes now hears nothing
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(dead.getsockname())
        start = time.monotonic()
        assert web.fetch(f"http://two.example:{server.server_port}/a.png").data == b"picture"
        assert 0.3 <= time.monotonic() - start < 5


def test_the_last_address_has_all_the_time_that_is_left(web, server, monkeypatch):
    given = []

    class Watched(deadline.Socket):
        def connect(self, address):
            given.append(self.gettimeout())
            super().connect(address)

    monkeypatch.setattr(urls, "Socket", Watched)
    assert web.fetch(f"{server.url}/a.png").data == b"picture"
    assert len(given) == 1 and given[0] > urls.ADDRESS_SECONDS


# -- asked again ----------------------------------------------------------------------


@pytest.mark.parametrize("path, data", [("etag", b"tagged"), ("modified", b"dated")])
def test_what_has_not_changed_is_not_sent_again(web, server, path, data):
    url = f"{server.url}/to/302/{server.url}/{path}"
    first = web.fetch(url)
    assert first.data == data
    assert web.fetch(url, first.fingerprint) == Fetched(None, first.fingerprint)
    assert web.fetch(url, "url").data == data
    assert web.fetch(url, "file 7 5").data == data  # of a path that became a URL
    assert not web.unchanged(url, first.fingerprint)  # it cannot be known without asking


def test_what_has_changed_is_sent_again(web, server):
    first = web.fetch(f"{server.url}/etag")
    server.etag = '"two"'
    again = web.fetch(f"{server.url}/etag", first.fingerprint)
    assert again.data == b"tagged" and again.fingerprint.endswith(' "two"')


@pytest.mark.parametrize(
    "modified",
    [
        ("Wed, 21 Oct 2015 07:27:00 GMT", b"older"),  # put back, with its date
        ("Wed, 21 Oct 2015 07:29:00 GMT", b"newer"),
        ("Wed, 21 Oct 2015 07:28:00 GMT", b"of the same second"),
    ],
)
def test_a_picture_of_another_date_or_length_is_another(web, server, modified):
    first = web.fetch(f"{server.url}/modified")
    server.modified = modified
    assert web.fetch(f"{server.url}/modified", first.fingerprint).data == modified[1]


def test_a_tag_belongs_to_the_url_that_gave_it(web, server):
    """Each picture of a server may have the same: what redirects lead to may be another."""
    server.latest = "/etag/v1"
    first = web.fetch(f"{server.url}/latest")
    assert web.fetch(f"{server.url}/latest", first.fingerprint).data is None
    server.latest = "/etag/v2"
    assert web.fetch(f"{server.url}/latest", first.fingerprint).data == b"tagged"


def test_a_host_that_no_certificate_can_name_leaves_no_socket_open(web, server, monkeypatch):
    look_up = socket.getaddrinfo
    monkeypatch.setattr(
        urls.socket, "getaddrinfo", lambda host, *rest, **more: look_up("127.0.0.1", *rest, **more)
    )
    made = []
    monkeypatch.setattr(
        urls, "Socket", lambda *kind: made.append(deadline.Socket(*kind)) or made[-1]
    )
    assert "cannot be fetched" in refusal(web, f"https://.example:{server.server_port}/")
    assert [sock.fileno() for sock in made] == [-1]


def test_a_mark_that_cannot_be_sent_back_is_not_kept(web, server):
    assert web.fetch(f"{server.url}/oddtag") == Fetched(b"tagged", "url")


# -- redirects ------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed(web, server, status):
    assert web.fetch(f"{server.url}/to/{status}/{server.url}/a.png").data == b"picture"
    assert web.fetch(f"{server.url}/to/{status}//a.png").data == b"picture"


def test_each_redirect_is_of_where_the_one_before_it_led(web, server):
    with serving() as other:
        url = server.url.replace("http://", "http://user:secret@")
        assert web.fetch(f"{url}/to/302/{other.url}/to/302//b.png").data == b"picture"
        assert [path for path, _ in other.asked] == ["/to/302//b.png", "/b.png"]
        assert all("Authorization" not in headers for _, headers in other.asked)


@pytest.mark.parametrize("path", ["loop", "same"])
def test_redirects_end(web, server, path):
    said = refusal(web, f"{server.url}/{path}")
    assert said == f"{server.url}/{path} leads from one URL to the next more than 5 times."
    assert len(server.asked) == 6


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "ftp://u:secret@host/a.png", "data:image/png;base64,AA"]
)
def test_a_redirect_leads_to_the_web_only(web, server, location):
    said = refusal(web, f"{server.url}/to/302/{location}")
    assert said.endswith(
        f"leads to a URL of the kind {location.partition(':')[0]!r}; only http is followed."
    )


# -- private addresses ----------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1",
        "169.254.169.254", "100.64.0.1", "192.0.2.1", "224.0.0.1", "255.255.255.255", "240.0.0.1",
        "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "fec0::1", "ff02::1",
        "2001:db8::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1",
        "64:ff9b:1::1", "64:ff9b:1::808:808", "100::1", "2001::1", "2001:0:808:808::1", "3fff::1",
        "5f00::1", "100:0:0:1::1", "192.0.0.192", "168.63.129.16", "192.88.99.1",
        "::ffff:168.63.129.16", "::ffff:0:127.0.0.1", "::ffff:0:8.8.8.8", "192.0.0.1", "198.18.0.1",
        "198.51.100.1", "203.0.113.1", "0.1.2.3", "64:ff9b::7f00:1", "64:ff9b::a00:1",
        "2002:7f00:1::", "2002:c0a8:101::1",
    ],
)  # fmt: skip
def test_an_address_is_private(address):
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_an_address_is_public(address):
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://{}/a.png\r\nX-Injected: yes", "http://{}/a.png HTTP/1.1\r\nX-Injected: yes\r\n",
        "http://{}/%0d%0aX-Injected:%20yes", "http://user\r\nX-Injected: yes@{}/a.png",
        "http://{}\r\nX-Injected: yes/a.png", "http://{}/a\tb\x0b\x0c\x00.png",
        "http://{}/?a\r\nX: b",
        "http://u%0d%0aX-Injected:yes@{}/a.png", "http://{}/\u2028\u0085X-Injected: yes",
    ],
)  # fmt: skip
def test_a_url_puts_nothing_into_the_headers(web, server, url):
    with contextlib.suppress(SourceError):
        web.fetch(url.format(server.url.removeprefix("http://")))
    for path, headers in server.asked:
        assert not {"X-Injected", "X"} & set(headers), headers
        assert set(headers) <= {"Host", "User-Agent", "Authorization", "Accept-Encoding"}
        assert path.isascii() and path.isprintable() and " " not in path


def test_a_redirect_puts_nothing_into_the_headers(web, server):
    for location in ("/a%0d%0aX-Injected:%20yes", "/a\x0b\x0cX-Injected: yes", "//user:pw\x85@h/"):
        with contextlib.suppress(SourceError):
            web.fetch(f"{server.url}/to/302/{location}")
    assert all("X-Injected" not in headers for _, headers in server.asked)


def test_a_private_address_is_refused_before_it_is_asked(tmp_path, server):
    careful = Sources(tmp_path)
    port = server.server_port
    for host in (
        "127.0.0.1",
        "localhost",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "017700000001",
        "0",
        "0.0.0.0",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::]",
        "127.0.0.1.",
        "１２７.0.0.1",
        "127。0。0。1",
        "user:pw@127.0.0.1",
    ):
        said = refusal(careful, f"http://{host}:{port}/a.png")
        if "leads nowhere" in said:  # some systems know fewer ways to write an address
            continue
        assert "is at the private address" in said, host
        assert said.endswith("allow such URLs with --allow-private-urls.")
        assert "pw" not in said
    assert not server.asked


@pytest.fixture
def half_public(tmp_path, monkeypatch):
    """Sources to which 127.0.0.1 is public, as public.example, and nothing else is."""
    asked = []
    look_up = socket.getaddrinfo

    def getaddrinfo(host, port, **options):
        asked.append(host)
        if host == "rebinding.example":  # it answers otherwise the second time
            host = "127.0.0.1" if asked.count(host) == 1 else "10.0.0.1"
        elif host == "two.example":
            return look_up("127.0.0.2", port, **options) + look_up("127.0.0.1", port, **options)
        return look_up("127.0.0.1" if host == "public.example" else host, port, **options)

    monkeypatch.setattr(urls.socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(urls, "is_public", lambda address: address == "127.0.0.1")
    sources = Sources(tmp_path)
    sources.looked_up = asked
    return sources


def test_a_redirect_to_a_private_address_is_refused(half_public, server):
    url = f"http://public.example:{server.server_port}"
    assert half_public.fetch(f"{url}/to/302/{url}/a.png").data == b"picture"
    said = refusal(half_public, f"{url}/to/302/http://127.0.0.3:{server.server_port}/a.png")
    assert said.startswith("127.0.0.3 is at the private address 127.0.0.3: ")
    assert refusal(half_public, f"{url}/to/302/http://[::1]/").startswith("::1 is at the private")


def test_the_address_checked_is_the_address_asked(half_public, server):
    url = f"http://rebinding.example:{server.server_port}/a.png"
    assert half_public.fetch(url).data == b"picture"
    assert half_public.looked_up == ["rebinding.example"]
    assert "is at the private address 10.0.0.1" in refusal(half_public, url)


def test_one_private_address_of_several_is_enough(half_public, server):
    said = refusal(half_public, f"http://two.example:{server.server_port}/a.png")
    assert said.startswith("two.example is at the private address 127.0.0.2: ")


def test_a_public_address_vouches_for_no_other(tmp_path, monkeypatch):
    """Where nobody answers at the first, public one, the next is looked at as it was."""
    look_up = socket.getaddrinfo
    with serving("127.0.0.2") as private:

        def two_addresses(host, port, **options):
            return look_up("127.0.0.1", port, **options) + look_up("127.0.0.2", port, **options)

        monkeypatch.setattr(urls.socket, "getaddrinfo", two_addresses)
        monkeypatch.setattr(urls, "is_public", lambda address: address == "127.0.0.1")
        said = refusal(Sources(tmp_path), f"http://two.example:{private.server_port}/a.png")
        assert said.startswith("two.example is at the private address 127.0.0.2: ")
        assert not private.asked


def test_an_address_of_ipv6_is_asked(web):
    try:
        with serving("::1") as server:
            assert web.fetch(f"{server.url}/a.png").data == b"picture"
            assert server.asked[0][1]["Host"] == f"[::1]:{server.server_port}"
            assert (
                refusal(web, f"{server.url}/status/404")
                == f"{server.url}/status/404 answers 404 Not Found."
            )
    except OSError:
        pytest.skip("no IPv6 here")


# -- passwords and certificates -------------------------------------------------------


def test_a_password_is_sent_and_never_said(web, server):
    url = server.url.replace("http://", "http://us%40er:pass%3Aword@")
    assert web.fetch(f"{url}/a.png").data == b"picture"
    sent = server.asked[-1][1]["Authorization"]
    assert base64.b64decode(sent.removeprefix("Basic ")) == b"us@er:pass:word"
    for path in ("status/500", "short", "nothing", "to/302/ftp://x/", "loop", "announced"):
        said = refusal(web, f"{url}/{path}")
        assert "pass" not in said
        assert "er:" not in said.replace("after", "").replace("server:", "")


def test_a_password_goes_to_its_own_server_only(web, server):
    with serving() as other:
        url = server.url.replace("http://", "http://user:secret@")
        web.fetch(f"{url}/to/302//a.png")
        assert "Authorization" in server.asked[-1][1]
        web.fetch(f"{url}/to/302/{other.url}/a.png")
        assert "Authorization" not in other.asked[-1][1]


@pytest.mark.parametrize(
    "location, login",
    [
        ("b.png", "user:secret"),
        ("https://A.example:8443/b.png", "user:secret"),
        ("https://b.example:8443/b.png", None),
        ("https://a.example:8444/b.png", None),
        ("https://a.example/b.png", None),
        ("http://a.example:8443/b.png", None),
        ("https://other:own@a.example:8443/b.png", "other:own"),
        ("https://other:own@b.example:8443/b.png", "other:own"),
    ],
)
def test_its_own_server_is_the_same_host_at_the_same_port_by_the_same_way(location, login):
    asked = URL.parse("https://user:secret@a.example:8443/a.png")
    assert asked.follow(location).login == login


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for 127.0.0.1 that nobody has signed, made anew for each run."""
    if not shutil.which("openssl"):
        pytest.skip("there is no openssl to make a certificate with")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test -addext"
    subprocess.run(
        [*command.split(), "subjectAltName=IP:127.0.0.1", "-keyout", path, "-out", f"{path}.crt"],
        check=True,
        capture_output=True,
    )
    path.write_bytes(path.read_bytes() + Path(f"{path}.crt").read_bytes())
    return path


@pytest.fixture
def secure_server(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with serving(context=context) as server:
        yield server


def test_a_certificate_that_nobody_signed_is_refused(web, secure_server):
    said = refusal(web, f"{secure_server.url}/a.png")
    assert "its certificate is not accepted (self" in said
    assert not secure_server.asked


def test_a_certificate_must_be_the_hosts(web, secure_server, certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    said = refusal(web, f"https://localhost:{secure_server.server_port}/a.png")
    assert "its certificate is not accepted" in said


def test_https_is_read_and_hurried(web, secure_server, certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert web.fetch(f"{secure_server.url}/a.png").data == b"picture"
    monkeypatch.setattr(urls, "URL_SECONDS", 0.5)
    assert "was not read within 0.5 seconds" in refusal(web, f"{secure_server.url}/drip/body")


def test_https_where_there_is_none_is_refused(web, server):
    said = refusal(web, f"https://127.0.0.1:{server.server_port}/a.png")
    assert said.endswith("cannot be fetched: no encrypted connection can be made.")


def test_a_url_keeps_no_other_waiting():
    """Files are read a few at a time in one thread; of four URLs each has its own."""
    together = threading.Barrier(4)

    class Slow:
        def fetch(self, value, known):
            together.wait(20)
            raise SourceError(value)

        def close(self):
            pass

    rows = [Candidate((n,), f"https://x/{n}", None, None, None, None, None) for n in range(4)]
    with Reader(Slow(), Geometry(160), thumbnails=False, blob=None, is_known=None) as reader:
        found = list(reader.read(rows))
    assert [read.error for read in found] == [row.value for row in rows]
