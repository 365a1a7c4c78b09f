"""The picture in a request's body, read piece by piece and never beyond the limit."""

from __future__ import annotations

from ..errors import TooLarge, UsageError
from .settings import megabytes

FIELD = "image"
_FRAMING = 64 * 1024  # boundaries, headers and small fields around the picture


async def read_picture(request, limit: int) -> bytes:
    """The bytes of the multipart field ``image``, or of a raw ``image/*`` body.

    Raises :class:`TooLarge` as soon as more than ``limit`` bytes are announced or seen.
    """
    from python_multipart.multipart import parse_options_header

    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind == b"multipart/form-data":
        picture, most = _Field(options.get(b"boundary", b""), limit), limit + _FRAMING
    elif kind.startswith(b"image/") or kind == b"application/octet-stream":
        picture, most = _Body(limit), limit
    else:
        raise UsageError(
            f"Send the picture as a multipart field named {FIELD}, "
            "or as the body with a content type that begins with image/."
        )
    try:
        async for chunk in _chunks(request, most, limit):
            picture.write(chunk)
        data = picture.finish()
    except TooLarge:
        await _let_finish(request, most)
        raise
    if not data:
        raise UsageError("Choose a picture first.")
    return data


async def _chunks(request, most: int, limit: int):
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > most:
        raise _too_large(limit)
    seen, more = 0, True
    while more:
        message = await request.receive()
        if message["type"] != "http.request":
            raise UsageError("The connection closed before the whole picture was here.")
        chunk, more = message.get("body", b""), message.get("more_body", False)
        seen += len(chunk)
        if seen > most:
            raise _too_large(limit)
        yield chunk


async def _let_finish(request, most: int) -> None:
    """Drop what is still coming, within reason: a browser that is cut off while it
    sends shows its own error page and not ours."""
    left, more = 4 * most, True
    while more and left > 0:
        message = await request.receive()
        if message["type"] != "http.request":
            return
        left -= len(message.get("body", b""))
        more = message.get("more_body", False)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The picture is larger than {megabytes(limit)}, the most this server takes.")


class _Body:
    """A raw body is the picture."""

    def __init__(self, limit: int):
        self._limit = limit
        self._data = bytearray()

    def write(self, chunk: bytes) -> None:
        self._data += chunk
        if len(self._data) > self._limit:
            raise _too_large(self._limit)

    def finish(self) -> bytes:
        return bytes(self._data)


class _Field(_Body):
    """The part called ``image`` of a multipart body; the other parts are passed over."""

    def __init__(self, boundary: bytes, limit: int):
        from python_multipart.exceptions import FormParserError
        from python_multipart.multipart import MultipartParser, parse_options_header

        super().__init__(limit)
        self._header: list[bytes] = [b"", b""]
        self._wanted = False
        self._errors = FormParserError
        self._options = parse_options_header
        self._ended = False
        if not boundary:
            raise UsageError("The upload has no multipart boundary.")
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": self._header_piece(0),
                    "on_header_value": self._header_piece(1),
                    "on_header_end": self._end_header,
                    "on_part_data": self._part_data,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise UsageError(f"The upload cannot be read: {error}.") from None

    def write(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except self._errors as error:
            raise UsageError(f"The upload cannot be read: {error}.") from None

    def finish(self) -> bytes:
        if not self._ended:
            raise UsageError("The upload ended in the middle.")
        return super().finish()

    def _begin_part(self) -> None:
        self._wanted = False

    def _header_piece(self, place: int):
        def add(data: bytes, start: int, end: int) -> None:
            self._header[place] += data[start:end]

        return add

    def _end_header(self) -> None:
        name, value = self._header
        self._header = [b"", b""]
        if name.lower() == b"content-disposition":
            options = self._options(value.decode("latin-1"))[1]
            self._wanted = options.get(b"name") == FIELD.encode()

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._wanted:
            super().write(data[start:end])

    def _end(self) -> None:
        self._ended = True
