"""A hostile database in Chromium: no dialog, no script of its own, also under a strict policy."""

from __future__ import annotations

import hostile
import pytest
from conftest import served
from test_browser import chromium, file, picture, playwright  # noqa: F401

# As a careful owner sets it: nothing inline, nothing from elsewhere.
POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'"
)
PLUGIN = f"""
from datasette import hookimpl

@hookimpl
def asgi_wrapper(datasette):
    def wrap(app):
        async def with_policy(scope, receive, send):
            async def send_with(message):
                if message["type"] == "http.response.start":
                    policy = (b"content-security-policy", {POLICY.encode()!r})
                    message = {{**message, "headers": [*message["headers"], policy]}}
                await send(message)
            await app(scope, receive, send_with)
        return with_policy
    return wrap
"""


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    return hostile.build(tmp_path_factory.mktemp("hostile") / "data")


@pytest.fixture(scope="module", params=["no policy", "strict policy"])
def server(request, database, tmp_path_factory):
    plugins = tmp_path_factory.mktemp("plugins")
    if request.param == "strict policy":
        (plugins / "policy.py").write_text(PLUGIN)
    with served(database, "--plugins-dir", str(plugins)) as address:
        yield address, request.param == "strict policy"


@pytest.fixture
def page(chromium, server):  # noqa: F811
    """Fails the test for a dialog, an error, or a script that is neither ours nor Datasette's."""
    address, strict = server
    page = chromium.new_page(base_url=address)
    seen = []
    page.on("dialog", lambda dialog: (seen.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("pageerror", lambda error: seen.append(f"error: {error}"))
    page.on("console", lambda m: console(m) if m.type == "error" else None)

    def console(message):
        # Datasette's base page has an inline script (for its menu), the table page of 1.0 an
        # inline handler too; a strict policy refuses both. Of ours there are none.
        refused = ["inline script"] if strict else []
        if strict and "/-/image-search" not in page.url:
            refused.append("inline event handler")
        expected = ["favicon", "400 (Bad", "404 (Not", *refused]
        if not any(word in message.text for word in expected):
            seen.append(f"console: {message.text}")

    yield page
    page.close()
    assert seen == []


def pages(table: str) -> list[str]:
    return [hostile.page_of(table), f"{hostile.page_of(table)}/-/image-search"]


def test_every_page_of_a_hostile_database(page, server):
    for table in (hostile.TABLE, "pairs", "files"):
        for path in pages(table):
            page.goto(path)
            page.wait_for_load_state("networkidle")
            assert page.locator("img").count() >= len(hostile.TEXTS)
            broken = "() => [...document.images].filter(i => i.complete && !i.naturalWidth).length"
            assert page.evaluate(broken) == 0
        links = page.locator(".image-search-picture")
        for number in range(0, links.count(), 3):
            page.goto(path)
            page.locator(".image-search-picture").nth(number).click()
            page.wait_for_url("**_similar=*")
            assert page.locator(".image-search-caption").count() >= len(hostile.TEXTS) - 1
        turned = """() => [...document.querySelectorAll("section a, bdi")]
            .filter(e => getComputedStyle(e).unicodeBidi != "isolate").map(e => e.outerHTML)"""
        assert page.evaluate(turned) == []
        own = page.locator("script:not([src])").all_inner_texts()
        assert not any("image-search" in text or "alert(" in text for text in own)
        assert page.locator(".image-search-grid [onclick], .image-search-grid svg").count() == 0
        page.set_viewport_size({"width": 375, "height": 812})
        assert page.evaluate("document.documentElement.scrollWidth") <= 375
        page.set_viewport_size({"width": 1280, "height": 800})
    page.goto("/-/image-search")
    assert page.locator(".image-search-overview li").count() == 5


def test_errors_and_parameters(page):
    for text in hostile.TEXTS:
        for name in ("_similar", "_collection", "_size", "_upload", hostile.LABEL):
            query = page.evaluate("pair => new URLSearchParams([pair]).toString()", [name, text])
            page.goto(f"{pages(hostile.TABLE)[1]}?{query}")
    assert page.locator("h1").count() == 1


def test_the_page_works_under_the_policy(page, picture):  # noqa: F811
    path = pages(hostile.TABLE)[1]
    page.goto(path)
    # Our script runs: it hides the button, and sends what is chosen.
    page.wait_for_function("document.querySelector('.image-search-choose button').hidden")
    name = "<img src=x onerror=alert(1)>.png"
    page.get_by_label("Search with a picture of your own").set_input_files(file(picture, name))
    page.wait_for_url("**_upload=*")
    assert page.get_by_role("heading", level=1).inner_text() == "Similar to your picture"
    assert page.locator(".image-search-asked img").evaluate("image => image.naturalWidth") > 0
