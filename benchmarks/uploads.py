"""Uploads all at once and slow ones: what is answered, how soon, and the server's memory.

python -m benchmarks.uploads [--at-once 64] [--megabytes 18] [--slow 64]
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

PAGE = "/x/pictures/-/image-search.json?_size=1"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--at-once", type=int, default=64)
    parser.add_argument("--megabytes", type=int, default=18)
    parser.add_argument("--slow", type=int, default=64)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        process = serve(Path(folder), port)
        try:
            asyncio.run(measure(process.pid, port, Path(folder), arguments))
        finally:
            process.terminate()
            process.wait(30)


def serve(folder: Path, port: int) -> subprocess.Popen:
    import sqlite_utils
    from PIL import Image

    from datasette_image_search.collection import EmbedOptions, embed

    Image.new("RGB", (64, 64), "red").save(folder / "red.png")
    db = sqlite_utils.Database(folder / "x.db")
    db["pictures"].insert({"id": 1, "picture": "red.png"}, pk="id")
    db.conn.close()
    embed(folder / "x.db", "pictures", EmbedOptions(model="mini", column="picture"))
    (folder / "metadata.json").write_text(
        '{"plugins": {"datasette-image-search": {"upload_timeout": 20}}}'
    )
    return subprocess.Popen(
        [sys.executable, "-m", "datasette", str(folder / "x.db"), "-p", str(port),
         "-m", str(folder / "metadata.json")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def measure(pid: int, port: int, folder: Path, arguments) -> None:
    from PIL import Image

    await started(port)
    small = (folder / "red.png").read_bytes()
    side = int((arguments.megabytes * 10**6 / 3) ** 0.5)
    Image.effect_noise((side, side), 64).convert("RGB").save(folder / "large.bmp")
    large = (folder / "large.bmp").read_bytes()
    print(f"idle                          {memory(pid)}")
    await post(port, small)
    print(f"after one small picture       {memory(pid)}")
    await post(port, large)
    print(f"after one of {len(large) / 1e6:.1f} MB          {memory(pid)}")
    began = time.monotonic()
    answers = await asyncio.gather(*(post(port, large) for _ in range(arguments.at_once)))
    took = time.monotonic() - began
    print(f"after {arguments.at_once} at once              {memory(pid)}")
    print(f"  {dict(Counter(answers))} in {took:.1f} s")
    slow = [asyncio.ensure_future(drip(port, large)) for _ in range(arguments.slow)]
    await asyncio.sleep(1)
    began = time.monotonic()
    status = await post(port, small)
    took = time.monotonic() - began
    print(f"beside {arguments.slow} slow senders: {status} in {took:.2f} s")
    began = time.monotonic()
    answers = dict(Counter(await asyncio.gather(*slow)))
    print(f"  they: {answers}, the last after {time.monotonic() - began + 1:.1f} s   {memory(pid)}")
    print(f"then a small picture: {await post(port, small)}")


async def started(port: int) -> None:
    for _ in range(300):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        except OSError:
            await asyncio.sleep(0.2)
    raise SystemExit("the server did not start")


def head(size: int) -> bytes:
    return (
        f"POST {PAGE} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\n"
        f"Content-Length: {size}\r\nConnection: close\r\n\r\n"
    ).encode()


async def post(port: int, data: bytes) -> str:
    return await send(port, data, len(data), 0)


async def drip(port: int, data: bytes) -> str:
    """100 kB at once, then a byte every tenth of a second, for a minute at most."""
    return await send(port, data[:100_000], len(data), 600)


async def send(port: int, data: bytes, size: int, drops: int) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = asyncio.ensure_future(reader.read(4096))
    try:
        writer.write(head(size) + data)
        await writer.drain()
        for _ in range(drops):
            if answer.done():
                break
            writer.write(b"x")
            await asyncio.sleep(0.1)
        found = await asyncio.wait_for(answer, 300)
        return found.split(b" ", 2)[1].decode() if found else "closed"
    except OSError:
        return "cut off"
    finally:
        writer.close()


def memory(pid: int) -> str:
    """Resident now and at most, of the server and what it started (Linux)."""
    now = most = 0
    for process in family(pid):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                now += int(line.split()[1])
            elif line.startswith("VmHWM"):
                most += int(line.split()[1])
    return f"{now / 1024:,.0f} MiB, at most {most / 1024:,.0f} MiB"


def family(pid: int) -> list[int]:
    found = [pid]
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            found += family(int(child))
    return found


if __name__ == "__main__":
    main()
