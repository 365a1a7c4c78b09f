"""A sidecar is a stranger's like the database: its checksums are right, whatever is in it."""

from __future__ import annotations

import json
import os
import struct

import faiss
import numpy as np
import pytest
from test_vector_index import identity, vectors

from datasette_image_search.errors import SidecarDamaged
from datasette_image_search.vector_index import Sidecar, SidecarWriter, base_file, footers

IDS, DATA = vectors(300)
DIMENSIONS = DATA.shape[1]


def written(folder, kind: str):
    path = folder / "shop.products.faiss"
    with SidecarWriter(path, identity(), kind) as index:
        index.add(IDS, DATA)
        index.finish()
    return path


@pytest.fixture(params=["exact", "ivf"])
def path(request, tmp_path):
    return written(tmp_path, request.param)


def rewritten(path, payload=None, order=None, **facts):
    """The file with other bytes for FAISS and other facts, all checksums being right."""
    with open(path, "rb") as file:
        footer = footers.read(path, file)
    raw = path.read_bytes()
    start, end = footer["vectors_at"], footer["tables_at"]
    length = start
    if payload is not None:
        length = len(payload)
        raw = payload + raw[start:]
        footer |= {"faiss_bytes": length, "vectors_at": length, "tables_at": end - start + length}
    content = bytearray(raw[: footers.content(footer)])
    if order is not None:
        content[footer["tables_at"] + 8 * len(IDS) :] = order.astype("<i8").tobytes()
    path.write_bytes(content)
    with open(path, "rb") as file:
        found, tables = file.fileno(), footer["tables_at"]
        parts = [(0, length), (tables, 16 * len(IDS))]
        footer["always"] = [[*part, base_file._checksum(found, *part)] for part in parts]
        footer["crc32"] = base_file._checksums(found, len(content), footer["block"])
    footer = {name: value for name, value in (footer | facts).items() if name != "format"}
    path.write_bytes(bytes(content) + footers.packed(**footer))


def refused(path) -> str:
    with pytest.raises(SidecarDamaged) as caught:
        Sidecar(path, identity()).search(DATA[:1], 5)
    return str(caught.value)


def test_what_is_written_again_as_it_was_is_read(path):
    rewritten(path)
    assert Sidecar(path, identity()).search(DATA[:1], 5)[0].ids[0] == IDS[0]


def clustered(codes=faiss.ScalarQuantizer.QT_8bit, wide=DIMENSIONS, lists=None, **sizes):
    """An index as ours, or nearly."""
    transform = faiss.LinearTransform(DIMENSIONS, wide, True)
    faiss.copy_array_to_vector(np.eye(wide, DIMENSIONS, dtype=np.float32).ravel(), transform.A)
    faiss.copy_array_to_vector(np.zeros(wide, np.float32), transform.b)
    transform.is_trained = True
    quantizer = faiss.IndexFlatL2(wide)
    inner = faiss.IndexIVFScalarQuantizer(quantizer, wide, 4, codes)
    turned = transform.apply(DATA)
    inner.train(turned)
    if lists is not None:
        inner.replace_invlists(lists(inner), True)
    inner.add(turned)
    for name, value in sizes.items():
        setattr(inner.sq, name, value)
    whole = faiss.IndexPreTransform(transform, inner)
    whole.ntotal = len(DATA)
    return faiss.serialize_index(whole).tobytes()


def flat_in_a_map():
    index = faiss.IndexIDMap2(faiss.IndexFlatIP(DIMENSIONS))
    index.add_with_ids(DATA, IDS + 10**9)
    return faiss.serialize_index(index).tobytes()


def graph():
    index = faiss.IndexHNSWFlat(DIMENSIONS, 16, faiss.METRIC_INNER_PRODUCT)
    index.add(DATA)
    return faiss.serialize_index(index).tobytes()


def other_metric():
    index = faiss.IndexFlat(DIMENSIONS, faiss.METRIC_L1)
    index.add(DATA)
    return faiss.serialize_index(index).tobytes()


def short():
    """A header of so many vectors, and half of them."""
    index = faiss.IndexFlatIP(DIMENSIONS)
    index.add(DATA)
    return faiss.serialize_index(index).tobytes()[: 4 * DIMENSIONS * len(DATA) // 2]


@pytest.mark.parametrize(
    "payload",
    [
        flat_in_a_map,
        graph,
        other_metric,
        short,
        lambda: clustered(wide=DIMENSIONS // 2),
        lambda: clustered(codes=faiss.ScalarQuantizer.QT_fp16),
        lambda: clustered(code_size=4096),
        lambda: clustered(d=100_000),
        lambda: clustered()[:-1],
        lambda: clustered() + b"x",
        lambda: b"",
    ],
)
def test_another_index_of_faiss_is_not_given_to_it(path, payload, monkeypatch):
    rewritten(path, payload())
    monkeypatch.setattr(faiss, "read_index", None)  # it is never asked
    assert "is damaged" in refused(path)


def test_an_index_like_ours_is_read(tmp_path):
    path = written(tmp_path, "ivf")
    rewritten(path, clustered())
    assert Sidecar(path, identity()).search(DATA[:1], 5)[0].ids[0] == IDS[0]


@pytest.mark.skipif(not hasattr(faiss, "OnDiskInvertedLists"), reason="FAISS has none there")
def test_lists_in_another_file_are_not_opened(path, tmp_path):
    elsewhere = tmp_path / "elsewhere"

    def on_disk(inner):
        lists = faiss.OnDiskInvertedLists(inner.nlist, inner.code_size, str(elsewhere))
        lists.this.disown()
        return lists

    rewritten(path, clustered(lists=on_disk))
    os.truncate(elsewhere, 10)  # who maps more of it and looks there is killed
    assert "is damaged" in refused(path)


def test_lists_of_other_sizes_are_not_read(tmp_path):
    path = written(tmp_path, "ivf")
    with open(path, "rb") as file:
        good = path.read_bytes()[: footers.read(path, file)["faiss_bytes"]]
    at = good.rindex(b"ilar")
    lists = struct.unpack_from("<Q", good, at + 4)[0]
    sizes = at + 4 + 16 + 4 + 8
    for number, size in ((0, 2**40), (0, 2**63), (lists - 1, 0)):
        bad = bytearray(good)
        struct.pack_into("<Q", bad, sizes + 8 * number, size)
        rewritten(path, bytes(bad))
        assert "its lists do not hold as many vectors as there are" in refused(path)


@pytest.mark.parametrize(
    "facts",
    [
        {"vectors_at": 2**62},
        {"vectors_at": -5},
        {"vectors_at": "x"},
        {"vectors_at": 0},
        {"count": True},
        {"count": 10**12},
        {"tables_at": None},
        {"scale": 0},
        {"scale": "1"},
        {"scale": float("nan")},
        {"zeros": [10**12]},
        {"zeros": ["x"]},
        {"zeros": 5},
        {"block": 0},
        {"block": "q"},
        {"crc32": [1]},
        {"crc32": None},
        {"always": [[1]]},
        {"always": [["a", "b", "c"]]},
        {"always": None},
        {"identity": None},
        {"identity": {"model": "m"}},
        {"learnt_from": "all"},
        {"faiss_bytes": 3},
    ],
    ids=json.dumps,
)
def test_a_footer_has_no_impossible_numbers(path, facts):
    rewritten(path, **facts)
    assert "is damaged" in refused(path)


@pytest.mark.parametrize("wrong", [2**40, -1])
def test_an_order_leads_to_no_place_outside(path, wrong):
    order = np.argsort(IDS)
    order[3] = wrong
    rewritten(path, order=order)
    assert "its order names places that there are not" in refused(path)
