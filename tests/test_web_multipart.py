"""What is sent, byte by byte: the exact picture comes out, or one plain sentence."""

from __future__ import annotations

import asyncio
import re
import traceback
from itertools import pairwise

import pytest
from datasette.utils.asgi import Request
from hypothesis import example, given, settings
from hypothesis import strategies as st
from odd_pictures import is_plain

from datasette_image_search.errors import Busy, ImageSearchError, TooLarge, TooSlow, UsageError
from datasette_image_search.web.body import Body, Memory
from datasette_image_search.web.multipart import read_picture
from datasette_image_search.web.settings import Settings

BOUNDARY = b"----x7"
FORM = "multipart/form-data; boundary=----x7"
PICTURE = b"\x89PNG\r\n\r\n------x7-\r\n--\r\n----x\r\r\n\n-- ends"


def request(pieces, content_type, *, more_comes=False, announced=None) -> Request:
    """A request that brings ``pieces``, and fails the test if it is asked for more."""
    waiting = list(pieces) or [b""]

    async def receive():
        assert waiting, "all of it has come, and is still waited for"
        piece = waiting.pop(0)
        if isinstance(piece, dict):
            return piece
        more = more_comes or bool(waiting)
        return {"type": "http.request", "body": piece, "more_body": more}

    headers = [(b"content-type", content_type.encode("latin-1"))] if content_type else []
    if announced is not None:
        headers.append((b"content-length", announced.encode("latin-1")))
    return Request({"type": "http", "method": "POST", "headers": headers}, receive)


async def read(pieces, content_type=FORM, limits=Settings(), memory=None, **options):
    memory = memory or Memory(10**9)
    body = Body(request(pieces, content_type, **options), limits)
    try:
        with memory.share(body.limit) as share:
            return await read_picture(body, share)
    except (TooLarge, Busy):
        await body.drop_the_rest()
        raise


def result(*arguments, **options) -> bytes:
    return asyncio.run(read(*arguments, **options))


def refusal(*arguments, **options) -> ImageSearchError:
    with pytest.raises(ImageSearchError) as caught:
        result(*arguments, **options)
    assert is_plain(str(caught.value)[:1].lower() + str(caught.value)[1:]), caught.value
    return caught.value


def part(data: bytes, *headers: bytes) -> bytes:
    return b"--%s\r\n%s\r\n\r\n%s\r\n" % (BOUNDARY, b"\r\n".join(headers), data)


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--%s--\r\n" % BOUNDARY


IMAGE = b'Content-Disposition: form-data; name="image"; filename="a.png"'


# -- forms as they should be -------------------------------------------------------------------


def test_the_picture_comes_out_wherever_the_body_is_cut():
    whole = form(
        part(b"a token", b'Content-Disposition: form-data; name="csrftoken"'),
        part(PICTURE, IMAGE, b"Content-Type: image/png"),
        part(b"after", b'Content-Disposition: form-data; name="other"'),
    )
    assert result([whole]) == PICTURE
    assert result([whole[i : i + 1] for i in range(len(whole))]) == PICTURE
    for cut in range(len(whole) + 1):
        assert result([whole[:cut], whole[cut:]]) == PICTURE, cut


@pytest.mark.parametrize(
    "header",
    [
        IMAGE,
        IMAGE.lower(),
        b"CONTENT-DISPOSITION: form-data; name=image",
        b'Content-Disposition:form-data;name="image";filename="a\\"b;name=x.png"',
        b'Content-Disposition: form-data; filename="image"; name="image"',
        b"Content-Disposition: form-data; name=\"image\"; filename*=UTF-8''%E2%82%AC.png",
        "Content-Disposition: form-data; name=\"image\"; filename=\"größe 袋.png\"".encode(),
        b'Content-Disposition: form-data; name="image"; filename="C:\\fakepath\\a.png"',
        b'Content-Disposition: form-data; name="image"; filename="../../etc/passwd"',
        b'Content-Disposition: form-data; name="image"; filename=""',
        b'Content-Disposition: form-data; name="image"',
    ],
)  # fmt: skip
def test_forms_as_programs_write_them(header):
    for extra in ((), (b"Content-Type: image/png",), (b"X-Odd: \xff\xfe",)):
        assert result([form(part(PICTURE, header, *extra))]) == PICTURE
        assert result([form(part(PICTURE, *extra, header))]) == PICTURE
    assert result([b"\r\n" + form(part(PICTURE, header)) + b"epilogue"]) == PICTURE


def test_the_first_picture_is_taken():
    other = b'Content-Disposition: form-data; name="images"'
    assert result([form(part(b"no", other), part(b"one", IMAGE), part(b"two", IMAGE))]) == b"one"


BITS = st.sampled_from(
    [b"\r\n", b"\r", b"\n", b"--", b"-", b"------x7"[:-1], b"x7", b"\0", b"\xff"]
)
CONTENTS = st.lists(st.one_of(BITS, st.binary(max_size=20)), max_size=12).map(b"".join)
CUTS = st.lists(st.integers(0, 400), max_size=12)


def cut(whole: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(whole), *(place for place in cuts if place < len(whole))})
    return [whole[a:b] for a, b in pairwise(places)]


def fits(data: bytes) -> bool:
    return b"--" + BOUNDARY not in b"\r\n" + data


@given(data=CONTENTS.filter(fits), others=st.lists(CONTENTS.filter(fits), max_size=3), cuts=CUTS)
@settings(deadline=None, max_examples=300)
def test_any_contents_come_out_exactly(data, others, cuts):
    other = b'Content-Disposition: form-data; name="field"'
    around = [part(one, other) for one in others]
    pieces = cut(form(*around[:1], part(data, IMAGE), *around[1:]), cuts)
    if data:
        assert result(pieces) == data
    else:
        assert str(refusal(pieces)) == "Choose a picture first."


@given(data=st.binary(max_size=200), cuts=CUTS)
@settings(deadline=None, max_examples=50)
def test_a_raw_body_is_the_picture(data, cuts):
    for kind in ("image/png", "image/jpeg; charset=x", "application/octet-stream", "IMAGE/webp"):
        if data:
            assert result(cut(data, cuts), kind) == data


# -- and as they should not --------------------------------------------------------------------


@pytest.mark.parametrize(
    "body, words",
    [
        (b"", "ended in the middle"),
        (form(), "Choose a picture first"),
        (b"--%s--" % BOUNDARY, "Choose a picture first"),
        (part(PICTURE, IMAGE), "ended in the middle"),
        (form(part(PICTURE, IMAGE))[:-6], "ended in the middle"),
        (form(part(b"", IMAGE)), "Choose a picture first"),
        (form(part(PICTURE)), "Choose a picture first"),
        (form(part(PICTURE, b"Content-Disposition: form-data")), "Choose a picture first"),
        (form(part(PICTURE, b"Content-Disposition: form-data; name=\xff")), "Choose a picture"),
        (form(part(PICTURE, b'Content-Disposition: form-data; name="image')), "Choose a picture"),
        (form(part(PICTURE, b"no colon at all")), "cannot be read"),
        (form(part(PICTURE, b" : x")), "cannot be read"),
        (b"preamble\r\n" + form(part(PICTURE, IMAGE)), "cannot be read"),
        (form(part(PICTURE, IMAGE)).replace(b"\r\n", b"\n"), "cannot be read"),
        (form(part(PICTURE, IMAGE, b"X: " + b"x" * 9000)), "The upload "),
        # by us, or by newer parsers
        (form(part(PICTURE, b"X" * 9000 + b": x", IMAGE)), "The upload "),
        (form(*[part(b"x", b"X: y")] * 101, part(PICTURE, IMAGE)), "more than 100 parts"),
    ],
)
def test_forms_that_are_none(body, words):
    assert words in str(refusal([body]))
    assert words in str(refusal([body[i : i + 3] for i in range(0, len(body), 3)]))


def test_a_form_may_have_as_many_parts_as_is_said():
    other = part(b"x", b"X: y")
    assert result([form(*[other] * 99, part(PICTURE, IMAGE))]) == PICTURE
    assert "more than 100 parts" in str(refusal([form(*[other] * 100, part(PICTURE, IMAGE))]))


def test_a_form_within_a_form_is_contents():
    inner = b"--inner\r\n" + IMAGE + b"\r\n\r\nnot this\r\n--inner--\r\n"
    mixed = b"Content-Type: multipart/mixed; boundary=inner"
    assert "Choose" in str(refusal([form(part(inner, b"Content-Disposition: form-data", mixed))]))
    assert result([form(part(inner, IMAGE, mixed))]) == inner


CONTENT_TYPES = st.one_of(
    st.sampled_from(
        [
            "", FORM, "multipart/form-data", "multipart/form-data; boundary=", "multipart/mixed",
            'multipart/form-data; boundary="----x7"', "multipart/form-data; boundary*=utf-8''x",
            "multipart/form-data; boundary=" + "x" * 70_000, "multipart/form-data; boundary=ä",
            "multipart/form-data; boundary*0=a; boundary*1=b", "multipart/form-data; =; ;;",
            "multipart/form-data; boundary*=%ff'%ff'%ff", "multipart/form-data; boundary*x*=a",
            "multipart/form-data; charset=utf-7; boundary=----x7", "image/", "image", ";", "\x00",
        ]
    ),
    st.text(st.characters(max_codepoint=255), max_size=60).map("multipart/form-data; {}".format),
    st.text(st.characters(max_codepoint=255), max_size=60),
)  # fmt: skip
HEADERS = st.one_of(
    st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=60).map(
        lambda text: b"Content-Disposition: form-data; " + text.encode("latin-1")
    ),
    st.sampled_from(
        [
            b"Content-Disposition: form-data; name*=bogus''%ff",
            b"Content-Disposition: form-data; name*=utf-8''image",
            b"Content-Disposition: form-data; name*0*=utf-8''im; name*1*=age",
            b"Content-Disposition: form-data; name*9999999999=x; name*x=y",
            b"Content-Disposition: ; ; ;=;",
            b"Content-Disposition:",
        ]
    ),
)


@given(content_type=CONTENT_TYPES, header=HEADERS, cuts=CUTS)
@example(content_type=FORM, header=b"Content-Disposition: form-data; name*=x'y'image", cuts=[])
@settings(deadline=None, max_examples=400)
def test_any_headers_are_understood_or_refused(content_type, header, cuts):
    try:
        assert result(cut(form(part(PICTURE, header)), cuts), content_type)
    except UsageError as error:
        assert len(str(error)) < 300


@given(
    edits=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 9), st.binary(max_size=9))),
    noise=st.binary(max_size=80),
    cuts=CUTS,
    more_comes=st.booleans(),
)
@settings(deadline=None, max_examples=400)
def test_damaged_forms_are_understood_or_refused(edits, noise, cuts, more_comes):
    for whole in (form(part(PICTURE, IMAGE, b"Content-Type: image/png")), noise):
        for place, gone, put in edits:
            whole = whole[:place] + put + whole[place + gone :]
        pieces = cut(whole, cuts)
        if more_comes:
            pieces = [*pieces, {"type": "http.disconnect"}]
        try:
            assert result(pieces, more_comes=more_comes)
        except (UsageError, TooLarge) as error:
            assert len(str(error)) < 300


# -- within a size, a time, and memory ---------------------------------------------------------


@pytest.mark.parametrize("over", [1, 100, 64 * 1024, 10**6])
@pytest.mark.parametrize("kind", [FORM, "image/png"])
@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("step", [1000, 10**7])
def test_a_picture_over_the_limit_is_refused_however_it_comes(over, kind, announced, step):
    """Also where the last piece is the one too many: nothing more is waited for then."""
    limits = Settings(max_upload_bytes=20_000)
    picture = b"x" * (20_000 + over)
    whole = form(part(picture, IMAGE)) if kind == FORM else picture
    pieces = [whole[i : i + step] for i in range(0, len(whole), step)]
    length = str(len(whole)) if announced else None
    error = refusal(pieces, kind, limits, announced=length)
    assert isinstance(error, TooLarge) and "larger than 0.02 MB" in str(error)
    most = picture[:20_000]
    whole = form(part(most, IMAGE)) if kind == FORM else most
    assert result([whole], kind, limits, announced=str(len(whole))) == most


@pytest.mark.parametrize("announced", ["", "-1", "x", "1e9", "²", "9" * 5000, "0"])
def test_an_announcement_that_is_not_true(announced):
    if announced == "9" * 5000:
        assert isinstance(refusal([PICTURE], "image/png", announced=announced), TooLarge)
    else:
        assert result(
            [PICTURE], "image/png", announced=announced.encode("ascii", "replace").decode()
        )


async def test_an_endless_body_is_not_read_for_ever():
    """What is seen after the limit is dropped, and after some more of it no longer read."""
    seen = 0

    async def receive():
        nonlocal seen
        seen += 1000
        return {"type": "http.request", "body": b"x" * 1000, "more_body": True}

    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", b"image/png")]}
    body = Body(Request(scope, receive), Settings(max_upload_bytes=10_000))
    memory = Memory(10**6)
    with pytest.raises(TooLarge), memory.share(body.limit) as share:
        await read_picture(body, share)
    assert seen == 11_000
    await body.drop_the_rest()
    assert seen < 500_000


async def test_nor_is_an_endless_field_of_another_name():
    """Of which nothing is kept: what counts is all that comes."""
    seen = 0

    async def receive():
        nonlocal seen
        piece = b"x" * 1000 if seen else part(b"", IMAGE.replace(b'"image"', b'"other"'))[:-2]
        seen += len(piece)
        assert seen < 10**6
        return {"type": "http.request", "body": piece, "more_body": True}

    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", FORM.encode())]}
    body = Body(Request(scope, receive), Settings(max_upload_bytes=10_000))
    with pytest.raises(TooLarge), Memory(10**6).share(body.limit) as share:
        await read_picture(body, share)


async def test_a_message_is_the_last_one_unless_it_says_otherwise():
    messages = [{"type": "http.request", "body": PICTURE}]

    async def receive():
        return messages.pop()

    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", b"image/png")]}
    body = Body(Request(scope, receive), Settings())
    with Memory(10**6).share(body.limit) as share:
        assert await read_picture(body, share) == PICTURE


def test_who_leaves_while_the_rest_is_dropped_has_been_refused_before():
    pieces = [b"x" * 10_001, {"type": "http.disconnect"}]
    error = refusal(pieces, "image/png", Settings(max_upload_bytes=10_000))
    assert isinstance(error, TooLarge)


@pytest.mark.parametrize("pace", [0.01, None])
async def test_a_slow_sender_is_left_in_time(pace):
    """One that never stops for long, and one that never comes back."""

    async def receive():
        await (asyncio.sleep(pace) if pace else asyncio.Event().wait())
        return {"type": "http.request", "body": b"x", "more_body": True}

    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", b"image/png")]}
    body = Body(Request(scope, receive), Settings(upload_timeout=0.2))
    memory = Memory(100)
    words = re.escape("not here within 0.2 seconds")
    with pytest.raises(TooSlow, match=words) as caught, memory.share(body.limit) as share:
        await read_picture(body, share)
    assert caught.value.status == 408
    assert memory.held == 0
    await body.drop_the_rest()  # ends at once: its time is over


async def test_what_is_dropped_must_come_in_time_too():
    async def receive():
        await asyncio.sleep(0.01)
        return {"type": "http.request", "body": b"x" * 1000, "more_body": True}

    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", b"image/png")]}
    body = Body(Request(scope, receive), Settings(max_upload_bytes=10**9, upload_timeout=0.2))
    await body.drop_the_rest()


async def test_what_is_refused_is_kept_by_nobody():
    """Not even by the error, which lives on while the rest of the body is dropped."""
    memory = Memory(10**6)
    pieces = [b"x" * 10**6, b"x"]
    body = Body(request(pieces, "image/png"), Settings(max_upload_bytes=10**6))
    with pytest.raises(TooLarge) as caught, memory.share(body.limit) as share:
        await read_picture(body, share)
    kept = [
        value
        for frame, _ in traceback.walk_tb(caught.tb)
        for value in frame.f_locals.values()
        if hasattr(value, "_data")
    ]
    assert kept and all(len(one._data) == 0 for one in kept)


async def test_memory_is_shared_and_given_back():
    memory = Memory(100)
    with memory.share(60) as one:
        one.take(60)
        with memory.share(60) as two:
            two.take(30)
            with pytest.raises(Busy):
                two.take(11)
            two.take(10)
        assert memory.held == 60
        with pytest.raises(Busy):
            await read(
                [b"x" * 41], "image/png", memory=memory, limits=Settings(max_upload_bytes=60)
            )
        assert memory.held == 60
        assert await read([b"x" * 40], "image/png", memory=memory) == b"x" * 40
    assert memory.held == 0
    # A server that takes larger pictures than that takes them one at a time.
    assert await read([b"x" * 500], "image/png", memory=memory) == b"x" * 500
    with memory.share(10**6) as one:
        one.take(500)
        with pytest.raises(Busy), memory.share(100) as two:
            two.take(1)
    assert memory.held == 0


@pytest.mark.parametrize("kind", [FORM, "image/png"])
def test_a_type_that_is_far_too_long_is_not_looked_into(kind):
    """Some versions of python-multipart take the square of its length."""
    assert "header that is far too long" in str(refusal([], f'{kind}; x="' + ";" * 60_000))
    assert result([form(part(PICTURE, IMAGE))], f"{FORM}; x={'y' * 5000}") == PICTURE
