"""Answers as JSON: who wants one, and what shape it has."""

from __future__ import annotations

import json

from datasette import Response
from datasette.utils import CustomJSONEncoder

from . import methods


def wants_json(request) -> bool:
    if request.url_vars.get("format"):
        return True
    accept = request.headers.get("accept", "")
    return request.method == "POST" and accept.startswith("application/json")


def as_json(datasette, data: dict, status: int = 200, headers: dict | None = None):
    text = json.dumps(data, cls=CustomJSONEncoder)
    response = Response(
        text, status=status, headers=headers, content_type="application/json; charset=utf-8"
    )
    return methods.readable(datasette, response)


def failure(datasette, message: str, status: int, headers: dict | None = None):
    data = {"ok": False, "error": message, "errors": [message], "status": status}
    return as_json(datasette, data, status, headers)


def not_allowed(datasette, wants_json: bool, allowed: str):
    if wants_json:
        return failure(datasette, "Method not allowed", 405, {"allow": allowed})
    return methods.refused(allowed)
