"""Decoders in processes of their own: what kills, hangs or corrupts one costs one picture."""

from __future__ import annotations

import os
import pickle
import signal
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import sqlite_utils
from conftest import draw
from odd_pictures import encoded, is_plain, many_passes, odd_pictures, png, quarters
from PIL import Image

from datasette_image_search import catalog, pictures
from datasette_image_search.collection import (
    Collection,
    EmbedOptions,
    embed,
    query_pictures,
    reading,
    status,
)
from datasette_image_search.errors import DecoderError, PictureError
from datasette_image_search.pictures import Geometry, decoder, worker
from datasette_image_search.pictures.decoders import Decoders

ROOT = Path(__file__).parents[1]
SQUASH = Geometry(224)
SLOW = many_passes(3000, 3000, 900)  # seconds, and no more memory than others
GOOD = encoded(quarters(), "PNG")

CRASHED = "the picture crashed its decoder."
KILLED = "the picture's decoder was killed: maybe memory ran out."

posix = pytest.mark.skipif(os.name != "posix", reason="the signals are POSIX's")
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks as Linux answers")


class Struck(Decoders):
    """Decoders, of which each that decodes ``SLOW`` is sent a signal in the middle of it."""

    signal, most_strikes = None, 99

    def __init__(self, most=None, **options):
        super().__init__(most, **options)
        self.strikes = 0
        self._here = threading.local()

    def prepare(self, data, *arguments, **options):
        self._here.slow = data == SLOW
        return super().prepare(data, *arguments, **options)

    def _ask_one(self, decoder, question):
        if not self._here.slow or self.strikes == self.most_strikes:
            return super()._ask_one(decoder, question)
        self.strikes += 1
        strike = threading.Timer(0.3, decoder._process.send_signal, [self.signal])
        strike.start()
        try:
            return super()._ask_one(decoder, question)
        finally:
            strike.cancel()


def struck_by(name: str, **facts) -> type[Struck]:
    return type("Struck", (Struck,), {"signal": getattr(signal, name), **facts})


def refusal(pool: Decoders, data: bytes, **options) -> str:
    with pytest.raises(PictureError) as caught:
        pool.prepare(data, SQUASH, **options)
    return str(caught.value)


def same(one: pictures.Prepared, other: pictures.Prepared) -> bool:
    return (
        (one.width, one.height, one.thumbnail) == (other.width, other.height, other.thumbnail)
        and one.pixels.dtype == other.pixels.dtype
        and np.array_equal(one.pixels, other.pixels)
    )


@pytest.fixture(scope="module")
def pool():
    with Decoders(2) as pool:
        yield pool


# -- the same as in this process ----------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL")
@pytest.mark.parametrize("odd", odd_pictures(), ids=str)
def test_a_decoder_says_what_the_code_here_says(pool, odd, tmp_path):
    for geometry, thumbnail in ((SQUASH, True), (Geometry(160, "pad"), False)):
        try:
            expected = pictures.prepare(odd.data, geometry, thumbnail=thumbnail)
        except PictureError as error:
            assert refusal(pool, odd.data, thumbnail=thumbnail) == str(error)
        else:
            assert same(pool.prepare(odd.data, geometry, thumbnail=thumbnail), expected)
    path = tmp_path / odd.name
    path.write_bytes(odd.data)
    try:
        header = pictures.read_header(path)
    except PictureError as error:
        with pytest.raises(PictureError) as caught:
            pool.read_header(path)
        assert str(caught.value) == str(error)
    else:
        assert pool.read_header(path) == header


def test_many_threads_share_few_decoders(pool):
    datas = [encoded(draw("disc", "red", (60 + i, 50)), "PNG") for i in range(40)]
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda data: pool.prepare(data, SQUASH), datas))
    assert [one.width for one in made] == list(range(60, 100))
    assert len(pool._all) <= 2


def test_a_decoder_starts_lean():
    code = (
        "import sys, datasette_image_search.pictures.worker\n"
        "print([name for name in ('numpy', 'torch', 'datasette', 'sqlite3', 'subprocess')"
        " if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


# -- crashed, hung, out of memory ---------------------------------------------------------


@posix
@pytest.mark.parametrize(
    "name, words", [("SIGSEGV", CRASHED), ("SIGABRT", CRASHED), ("SIGKILL", KILLED)]
)
def test_a_crash_costs_one_picture(name, words):
    with struck_by(name)(1) as pool:
        assert refusal(pool, SLOW) == words
        assert pool.strikes == 1
        assert same(pool.prepare(GOOD, SQUASH), pictures.prepare(GOOD, SQUASH))
        # In one that has decoded others, these may be to blame: a new one decides.
        assert refusal(pool, SLOW) == words
        assert pool.strikes == 3
        assert len(pool._all) == 0


@posix
def test_what_an_earlier_picture_may_have_broken_is_tried_again():
    with struck_by("SIGSEGV", most_strikes=1)(1) as pool:
        pool.prepare(GOOD, SQUASH)
        assert same(pool.prepare(SLOW, SQUASH), pictures.prepare(SLOW, SQUASH))
        assert pool.strikes == 1


@posix
def test_one_that_hangs_is_killed():
    with struck_by("SIGSTOP")(1, seconds=2) as pool:
        pool.prepare(GOOD, SQUASH)
        assert refusal(pool, SLOW) == "the picture took longer than 2 seconds to decode."
        assert pool.strikes == 1  # another would take as long
        pool.prepare(GOOD, SQUASH)


def test_a_picture_that_takes_too_long():
    with Decoders(1, seconds=0.1) as pool:
        assert refusal(pool, SLOW) == "the picture took longer than 0.1 seconds to decode."


@linux
def test_the_memory_of_a_decoder_is_bounded():
    import resource

    class Narrow(Decoders):
        def _start(self):
            decoder = super()._start()
            pid = decoder._process.pid
            most = (worker.MEMORY_BYTES, worker.MEMORY_BYTES)
            assert resource.prlimit(pid, resource.RLIMIT_DATA) == most
            resource.prlimit(pid, resource.RLIMIT_DATA, (150 * 2**20, 150 * 2**20))
            assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "1000\n"
            return decoder

    with Narrow(1) as pool:
        large = encoded(Image.new("RGB", (9000, 9000)), "PNG", compress_level=1)
        assert refusal(pool, large) == "the picture needs more memory than there is."
        pool.prepare(GOOD, SQUASH)


# -- a decoder that was taken over --------------------------------------------------------


def answer(kind: int, *numbers: int) -> bytes:
    return worker.ANSWER.pack(kind, *numbers)


PIXELS = bytes(224 * 224 * 3)
DECODED = answer(worker.PREPARED, 1, 1, 0) + PIXELS
SMALL = answer(worker.THUMBNAIL, 0, 0, 3) + b"\xff\xd8\xff"


@pytest.mark.parametrize(
    "said",
    [
        answer(0, 1, 1, 0),
        answer(99, 1, 1, 0),
        answer(worker.HEADED, 1, 1, 4) + b"jpeg",
        answer(worker.PREPARED, 0, 1, 0) + PIXELS + SMALL,
        answer(worker.PREPARED, 2**31, 1, 0) + PIXELS + SMALL,
        DECODED,
        DECODED + answer(worker.THUMBNAIL, 0, 0, 0),
        DECODED + answer(worker.THUMBNAIL, 0, 0, 2**32 - 1),
        DECODED + answer(worker.THUMBNAIL, 0, 0, 8) + b"<script>",
        DECODED + answer(worker.THUMBNAIL, 1, 0, 3) + b"\xff\xd8\xff",
        DECODED + DECODED,
        answer(worker.REFUSED, 0, 0, 0),
        answer(worker.REFUSED, 0, 0, 2**32 - 1),
        # Of these all comes, and is more than ours would ever say.
        answer(worker.REFUSED, 0, 0, 2**10 + 1) + b"a" * (2**10 + 1),
        DECODED + answer(worker.THUMBNAIL, 0, 0, 2**20 + 1) + b"\xff\xd8\xff" + bytes(2**20 - 2),
        answer(worker.REFUSED, 0, 0, 5) + b"a\x1b[2J",
        answer(worker.REFUSED, 0, 0, 3) + b"a\nb",
        DECODED[:-1],
        b"",
    ],
)
def test_nonsense_is_not_believed(monkeypatch, tmp_path, said):
    monkeypatch.setattr(decoder, "_CODE", impostor(tmp_path, said, len(GOOD)))
    with Decoders(1) as pool:
        assert refusal(pool, GOOD) == CRASHED
        assert len(pool._all) == 0


def test_pixels_are_shown_before_the_thumbnail_is_made(pool):
    seen = []
    made = pool.prepare(GOOD, SQUASH, seen=seen.append)
    assert seen == [made.pixels] and same(made, pictures.prepare(GOOD, SQUASH))
    assert refusal(pool, b"no picture", seen=seen.append) and len(seen) == 1


def test_a_decoder_that_crashes_over_the_thumbnail(monkeypatch, tmp_path):
    """What was shown is then worth nothing: the picture fails."""
    monkeypatch.setattr(decoder, "_CODE", impostor(tmp_path, DECODED, len(GOOD)))
    seen = []
    with Decoders(1) as pool:
        assert refusal(pool, GOOD, seen=seen.append) == CRASHED
    assert len(seen) == 1


def test_a_thumbnail_that_is_refused_costs_one_picture_and_no_decoder(monkeypatch, tmp_path):
    said = [DECODED + answer(worker.REFUSED, 0, 0, 4) + b"bad.", DECODED + SMALL]
    monkeypatch.setattr(decoder, "_CODE", impostor(tmp_path, said, len(GOOD)))
    with Decoders(1) as pool:
        assert refusal(pool, GOOD) == "bad."
        before = set(pool._all)
        assert pool.prepare(GOOD, SQUASH).thumbnail == b"\xff\xd8\xff"
        assert pool._all == before


def test_the_vector_is_of_the_pixels_of_the_last_try(shop, monkeypatch, tmp_path):
    """A decoder that has answered once shows other pixels and crashes; the next one is asked."""
    white = answer(worker.PREPARED, 1, 1, 0) + b"\xff" * len(PIXELS)
    monkeypatch.setattr(decoder, "_CODE", impostor(tmp_path, [DECODED + SMALL, white], len(GOOD)))
    record = Collection.open(catalog.connect(shop / "shop.db"), "products").record
    with Decoders(1) as pool:
        monkeypatch.setattr(query_pictures, "_decoders", lambda: pool)
        vectors = [query_pictures.picture_vector(GOOD, record, shop)[0] for _ in range(2)]
    assert np.array_equal(*vectors)


def test_a_format_that_there_is_not_is_not_believed(monkeypatch, tmp_path):
    said = answer(worker.HEADED, 1, 1, 4) + b"evil"
    path = tmp_path.resolve() / "x"
    monkeypatch.setattr(decoder, "_CODE", impostor(tmp_path, said, len(bytes(path))))
    with Decoders(1) as pool, pytest.raises(PictureError, match=CRASHED):
        pool.read_header(path)


def impostor(folder: Path, said: bytes | list[bytes], asked: int) -> str:
    """The code of a decoder that says ``said`` to one question of so many bytes, and ends.

    Of several sayings each is for one question.
    """
    (folder / "said").write_bytes(pickle.dumps([said] if isinstance(said, bytes) else said))
    return (
        "import pickle, sys\n"
        f"sys.stdout.buffer.write({worker.READY!r})\n"
        "sys.stdout.flush()\n"
        f"for said in pickle.load(open({str(folder / 'said')!r}, 'rb')):\n"
        f"    sys.stdin.buffer.read({worker.REQUEST.size + asked})\n"
        "    sys.stdout.buffer.write(said)\n"
        "    sys.stdout.flush()\n"
    )


def test_decoders_that_do_not_start(monkeypatch):
    for code in ("import nothing_of_the_kind", "print('ready?')"):
        monkeypatch.setattr(decoder, "_CODE", code)
        with Decoders(1) as pool, pytest.raises(DecoderError) as caught:
            pool.prepare(GOOD, SQUASH)
        assert is_plain(str(caught.value))
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with Decoders(1) as pool, pytest.raises(DecoderError, match="No such file"):
        pool.prepare(GOOD, SQUASH)
    monkeypatch.setattr(sys, "executable", "")
    with Decoders(1) as pool, pytest.raises(DecoderError, match="no Python interpreter"):
        pool.prepare(GOOD, SQUASH)


def test_what_libraries_print_does_not_get_among_the_answers(pool):
    """A TIFF whose tags libtiff complains of, and a request in two writes."""
    odd = struct.pack("<2sHIH", b"II", 42, 8, 1) + struct.pack("<HHII", 256, 3, 1, 4) + b"\0" * 4
    assert is_plain(refusal(pool, odd))
    pool.prepare(GOOD, SQUASH)


# -- nothing is left behind ---------------------------------------------------------------


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 60
    while is_running(pid):
        assert time.monotonic() < deadline, "a decoder outlived us"
        time.sleep(0.02)


@linux
@pytest.mark.parametrize("at_work", [False, True])
def test_a_killed_parent_leaves_no_orphan(at_work):
    code = f"""
import sys, threading
sys.path.insert(0, {str(ROOT / "tests")!r})
from test_decoders import *
pool = Decoders(1)
pool.prepare(GOOD, SQUASH)
if {at_work}:
    threading.Thread(target=pool.prepare, args=(SLOW, SQUASH), daemon=True).start()
    while pool._idle:
        pass
print(*[decoder._process.pid for decoder in pool._all], flush=True)
threading.Event().wait()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        (pid,) = map(int, parent.stdout.readline().split())
        assert is_running(pid)
        parent.kill()
    wait_until_gone(pid)


@linux
def test_closing_ends_what_is_at_work():
    pool = Decoders(1)
    pool.prepare(GOOD, SQUASH)
    (decoder,) = pool._all
    with ThreadPoolExecutor(1) as thread:
        work = thread.submit(pool.prepare, SLOW, SQUASH)
        while pool._idle:
            time.sleep(0.001)
        pool.close()
        with pytest.raises(PictureError):
            work.result()
    assert not is_running(decoder._process.pid)
    assert refusal(pool, GOOD) == "the decoders were closed."


@linux
def test_ctrl_c_is_answered_at_once_and_by_one_process(tmp_path):
    """A script without a guard, found by its own sys.path, whose pictures take minutes."""
    for number in range(60):
        (tmp_path / f"{number}.jpg").write_bytes(SLOW + bytes([number]))
    script = tmp_path / "run.py"
    script.write_text(f"""
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in the background ignore it
sys.path.insert(0, {str(ROOT)!r})
from datasette_image_search.collection import EmbedOptions, Progress, embed, load
class Told(Progress):
    def start(self, total): print(total, flush=True)
    def advance(self, rows): print("row\\n" * rows, end="", flush=True)
load("p.db", "p", ".")
try:
    embed("p.db", "p", EmbedOptions(model="mini", batch_size=1), progress=Told())
except KeyboardInterrupt:
    print("stopped", flush=True)
""")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with subprocess.Popen(
        [sys.executable, script.name], cwd=tmp_path, env=environment, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "60\n"
        assert process.stdout.readline() == "row\n"  # decoders are at work on the next
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert out.splitlines()[-1:] == ["stopped"], (process.returncode, err)
    assert err == ""


# -- a whole embed, and an upload ---------------------------------------------------------


def with_slow_row(folder) -> sqlite_utils.Database:
    (folder / "pictures/slow.jpg").write_bytes(SLOW)
    database = sqlite_utils.Database(folder / "shop.db")
    database["products"].insert({"id": 10_000, "picture": "pictures/slow.jpg"})
    database.execute("update products set id = 0 where id = 10000")
    database.conn.commit()
    return database


@posix
@pytest.mark.parametrize(
    "name, seconds, words",
    [
        ("SIGSEGV", 30, CRASHED),
        ("SIGKILL", 30, KILLED),
        ("SIGSTOP", 3, "the picture took longer than 3 seconds to decode."),
    ],
)
def test_embedding_goes_on(shop, shop_copy, monkeypatch, name, seconds, words):
    with_slow_row(shop_copy)
    monkeypatch.setattr(reading, "Decoders", struck_by(name))
    monkeypatch.setattr(reading, "DECODE_SECONDS", seconds)
    options = EmbedOptions(model="resnet18", collection="again")
    summary = embed(shop_copy / "shop.db", "products", options)
    assert (summary.embedded, summary.failed) == (24, 1)
    conn = catalog.connect(shop_copy / "shop.db")
    again = next(one for one in status(conn) if one.record.name == "again")
    assert again.failures == [((0,), words)]
    found = Collection.open(conn, "again")
    ever = Collection.open(catalog.connect(shop / "shop.db"), "products")
    for id in range(1, 25):
        assert np.array_equal(found.vector_of((id,)), ever.vector_of((id,)))
        assert found.rows.thumbnail_of((id,)) == ever.rows.thumbnail_of((id,))


def test_without_decoders_nothing_is_embedded_and_no_row_is_blamed(shop_copy, monkeypatch):
    monkeypatch.setattr(decoder, "_CODE", "raise SystemExit(1)")
    with pytest.raises(DecoderError):
        embed(shop_copy / "shop.db", "products", EmbedOptions(model="resnet18", collection="x"))
    states = status(catalog.connect(shop_copy / "shop.db"))
    assert all(not state.failures for state in states)


@posix
@pytest.mark.parametrize(
    "name, seconds, words",
    [
        ("SIGSEGV", 30, CRASHED),
        ("SIGSTOP", 2, "the picture took longer than 2 seconds to decode."),
    ],
)
async def test_an_upload_costs_one_request(shop, monkeypatch, name, seconds, words):
    from datasette.app import Datasette

    ds = Datasette([str(shop / "shop.db")])
    page = "/shop/products/-/image-search.json"
    picture = encoded(draw("disc", "red"), "PNG")
    with struck_by(name)(1, seconds=seconds) as pool:
        monkeypatch.setattr(query_pictures, "_decoders", lambda: pool)
        for _ in range(2):
            answer = await ds.client.post(page, files={"image": ("x.jpg", SLOW)})
            assert answer.status_code == 400
            assert answer.json()["error"].lower() == words
            answer = await ds.client.post(page, files={"image": ("x.png", picture)})
            assert answer.status_code == 200
            assert answer.json()["rows"][0]["id"] == 1


def test_a_bomb_among_uploads_is_refused_by_its_decoder(shop):
    record = Collection.open(catalog.connect(shop / "shop.db"), "products").record
    with pytest.raises(PictureError, match="89 million are the most"):
        query_pictures.picture_vector(png(60_000, 60_000), record, shop)
