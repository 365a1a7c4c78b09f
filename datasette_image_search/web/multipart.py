"""The picture in a request's body: one field of a form, or all of it."""

from __future__ import annotations

from ..errors import UsageError
from .body import Body, Share, too_large

FIELD = "image"
# What a form of ours, or of anybody who means well, never comes near.
_MOST_PARTS = 100
_LONGEST_HEADER = 8 * 1024


async def read_picture(body: Body, share: Share) -> bytes:
    """The bytes of the multipart field ``image``, or of a raw ``image/*`` body.

    They are taken from ``share``. Raises :class:`UsageError` where there are none, and
    what :class:`Body` and :class:`Share` raise.
    """
    from python_multipart.multipart import parse_options_header

    if len(body.content_type or "") > _LONGEST_HEADER:
        raise _header_too_long()  # of this too some versions take seconds to read 60,000 letters
    kind, options = parse_options_header(body.content_type)
    if kind == b"multipart/form-data":
        picture = _Field(options.get(b"boundary", b""), body.limit, share)
    elif kind.startswith(b"image/") or kind == b"application/octet-stream":
        picture = _Whole(body.limit, share)
    else:
        raise UsageError(
            f"Send the picture as a multipart field named {FIELD}, "
            "or as the body with a content type that begins with image/."
        )
    try:
        async for piece in body.pieces():
            picture.write(piece)
        data = picture.finish()
    finally:
        picture.clear()  # an error keeps all this alive while the rest of a body is dropped
    if not data:
        raise UsageError("Choose a picture first.")
    return data


class _Whole:
    """A raw body is the picture."""

    def __init__(self, limit: int, share: Share):
        self._limit = limit
        self._share = share
        self._data = bytearray()

    def write(self, piece: bytes) -> None:
        if len(self._data) + len(piece) > self._limit:
            raise too_large(self._limit)
        self._share.take(len(piece))
        self._data += piece

    def finish(self) -> bytes:
        return bytes(self._data)

    def clear(self) -> None:
        self._data.clear()


class _Field(_Whole):
    """The first part called ``image`` of a multipart body; the others are passed over."""

    def __init__(self, boundary: bytes, limit: int, share: Share):
        from python_multipart.exceptions import FormParserError
        from python_multipart.multipart import MultipartParser, parse_options_header

        super().__init__(limit, share)
        self._header = (bytearray(), bytearray())  # the name and the value of the one at hand
        self._parts = 0
        self._found = self._wanted = self._ended = False
        self._errors = FormParserError
        self._options = parse_options_header
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
        except FormParserError:
            raise _unreadable() from None

    def write(self, piece: bytes) -> None:
        try:
            self._parser.write(piece)
        except self._errors:  # in words for who writes a parser
            raise _unreadable() from None

    def finish(self) -> bytes:
        if not self._ended:
            raise UsageError("The upload ended in the middle.")
        if not self._found:
            raise UsageError(f"Choose a picture first: the upload has no field named {FIELD}.")
        return super().finish()

    def _begin_part(self) -> None:
        self._wanted = False
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise UsageError(f"The upload has more than {_MOST_PARTS} parts.")

    def _header_piece(self, place: int):
        def add(data: bytes, start: int, end: int) -> None:
            self._header[place].extend(data[start:end])
            if len(self._header[place]) > _LONGEST_HEADER:
                raise _header_too_long()

        return add

    def _end_header(self) -> None:
        name, value = (bytes(text) for text in self._header)
        for text in self._header:
            text.clear()
        if name.lower() == b"content-disposition" and not self._found:
            options = self._options(value.decode("latin-1"))[1]
            self._found = self._wanted = options.get(b"name") == FIELD.encode()

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._wanted:
            super().write(data[start:end])

    def _end(self) -> None:
        self._ended = True


def _header_too_long() -> UsageError:
    return UsageError("The upload has a header that is far too long.")


def _unreadable() -> UsageError:
    return UsageError("The upload cannot be read: it is not well-formed multipart/form-data.")
