"""The pages as a person uses them: in Chromium, by mouse, keyboard, drop and paste."""

from __future__ import annotations

import base64
import io
import os
import shutil

import pytest
from conftest import draw, served

from datasette_image_search.pictures.kinds import BY_ENDING, RAW, cannot_be_read

playwright = pytest.importorskip("playwright.sync_api")

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PAGE = "/shop/products/-/image-search"
PHONE = {"width": 375, "height": 812}


@pytest.fixture(scope="module")
def server(shop):
    with served(shop / "shop.db") as address:
        yield address


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as driver:
        found = os.environ.get("CHROMIUM") or shutil.which("chromium")
        try:
            browser = driver.chromium.launch(executable_path=found, args=ARGUMENTS)
        except playwright.Error as error:
            pytest.skip(f"no Chromium here: {str(error).splitlines()[0]}")
        yield browser
        browser.close()


@pytest.fixture
def page(chromium, server):
    """A page whose errors, in the console too, fail the test."""
    page = chromium.new_page(base_url=server)
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
    yield page
    page.close()
    assert [e for e in errors if "favicon" not in e] == []


@pytest.fixture(scope="module")
def picture() -> bytes:
    buffer = io.BytesIO()
    draw("box", "blue").save(buffer, "PNG")
    return buffer.getvalue()


def file(picture: bytes, name: str = "bag.png", type: str = "image/png") -> dict:
    return {"name": name, "mimeType": type, "buffer": picture}


def labels(page) -> list[str]:
    return page.locator(".image-search-caption a").all_inner_texts()


def test_from_the_table_to_similar_ones_and_on(page):
    page.goto("/shop/products?category=box")
    cells = page.locator(".image-search-cell")
    assert cells.count() == 6
    first = cells.first.locator("img")
    first.wait_for()
    page.wait_for_function("document.querySelector('.image-search-cell img').naturalWidth > 0")
    cells.first.get_by_role("link", name="Find similar to red box").click()
    page.wait_for_url(f"**{PAGE}?_similar=7&category=box")
    assert page.get_by_role("heading", level=1).inner_text() == "Similar to red box"
    assert len(labels(page)) == 5
    page.get_by_role("link", name="Find similar to blue box").click()
    page.wait_for_url(f"**{PAGE}?_similar=9&category=box")
    page.get_by_role("link", name="Remove the filter category").click()
    page.wait_for_url(f"**{PAGE}?_similar=9")
    assert len(labels(page)) == 23
    page.get_by_role("link", name="View and edit SQL").click()
    page.wait_for_selector("table.rows-and-columns")
    assert page.locator("table.rows-and-columns tbody tr").count() == 23


def test_menus(page):
    page.goto("/shop/products?category=box")
    page.locator("details.actions-menu-links summary").click()
    page.get_by_text("Find similar pictures").first.click()
    page.wait_for_url(f"**{PAGE}?category=box")
    page.goto("/")
    page.locator("header details summary").click()
    page.get_by_text("Image search").click()
    page.wait_for_url("**/-/image-search")
    page.get_by_role("link", name="products", exact=True).click()
    page.wait_for_url(f"**{PAGE}")


def test_choose(page, picture):
    page.goto(f"{PAGE}?price__lt=60")
    page.get_by_label("Search with a picture of your own").set_input_files(file(picture))
    page.wait_for_url("**_upload=*")
    assert page.get_by_role("heading", level=1).inner_text() == "Similar to your picture"
    assert "price__lt=60" in page.url
    page.get_by_role("link", name="Remove the filter price").click()
    page.wait_for_load_state()
    assert labels(page)[0] == "blue box"
    assert page.locator(".image-search-asked img").evaluate("image => image.naturalWidth") > 0


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_drop_and_paste(page, picture, way):
    page.goto(PAGE)
    carried = page.evaluate_handle(
        """data => {
            const bytes = Uint8Array.from(atob(data), c => c.charCodeAt(0));
            const carried = new DataTransfer();
            carried.items.add(new File([bytes], "bag.png", {type: "image/png"}));
            return carried;
        }""",
        base64.b64encode(picture).decode(),
    )
    form = page.locator("form.image-search-upload")
    if way == "drop":
        page.dispatch_event("h1", "dragenter", {"dataTransfer": carried})
        assert "is-target" in form.get_attribute("class")
        page.dispatch_event("h1", "dragleave", {"dataTransfer": carried})
        assert "is-target" not in form.get_attribute("class")
        page.dispatch_event("h1", "dragenter", {"dataTransfer": carried})
        page.dispatch_event("h1", "drop", {"dataTransfer": carried})
    else:
        page.evaluate(
            """carried => document.body.dispatchEvent(new ClipboardEvent("paste",
                {clipboardData: carried, bubbles: true, cancelable: true}))""",
            carried,
        )
    page.wait_for_url("**_upload=*")
    assert labels(page)[0] == "blue box"


def test_what_is_said_of_a_dropped_file_can_be_seen_from_further_down(page):
    page.set_viewport_size(PHONE)
    page.goto(PAGE)
    page.locator(".image-search-about").scroll_into_view_if_needed()
    carried = page.evaluate_handle(
        """() => {
            const carried = new DataTransfer();
            carried.items.add(new File(["hello"], "notes.txt", {type: "text/plain"}));
            return carried;
        }"""
    )
    page.dispatch_event("h1", "drop", {"dataTransfer": carried})
    status = page.get_by_role("status")
    playwright.expect(status).to_have_text("This is not a picture.")
    playwright.expect(status).to_be_in_viewport()


def test_what_is_wrong_is_said_before_anything_is_sent(page):
    page.goto(PAGE)
    field = page.get_by_label("Search with a picture of your own")
    field.set_input_files(file(b"x" * 20_000_001))
    status = page.get_by_role("status")
    assert "larger than 20 MB" in status.inner_text()
    field.set_input_files(file(b"hello", "notes.txt", "text/plain"))
    assert status.inner_text() == "This is not a picture."
    for name, type in (
        ("IMG_1.HEIC", "image/heic"),
        ("IMG_1.heic", ""),
        ("a.pdf", "application/pdf"),
    ):
        field.set_input_files(file(b"hello", name, type))
        said = cannot_be_read(BY_ENDING[f".{name[-4:].strip('.').lower()}"])
        assert status.inner_text() == said.removesuffix(".") + ", and choose that."
    assert page.url.endswith(PAGE)


def test_the_page_tells_the_script_of_all_that_the_server_cannot_read(page):
    page.goto(PAGE)
    field = page.get_by_label("Search with a picture of your own")
    status = page.get_by_role("status")
    sent = []
    page.on("request", lambda request: sent.append(request.method))
    for ending, kind in BY_ENDING.items():
        if kind == RAW:  # of many a preview is read
            continue
        field.set_input_files(file(b"hello", f"a.b{ending.upper()}", "application/octet-stream"))
        said = cannot_be_read(kind).removesuffix(".")
        assert status.inner_text() == f"{said}, and choose that.", ending
    assert "POST" not in sent


def test_a_damaged_picture_is_answered_on_the_page(chromium, server):
    page = chromium.new_page(base_url=server)
    page.goto(PAGE)
    page.get_by_label("Search with a picture of your own").set_input_files(file(b"no picture"))
    alert = page.get_by_role("alert")
    alert.wait_for()
    assert "not a picture" in alert.inner_text()
    assert page.get_by_label("Search with a picture of your own").is_visible()
    page.close()


def test_by_keyboard(page, picture):
    page.goto(f"{PAGE}?_similar=1")
    page.get_by_label("Search with another picture").focus()
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.textContent.trim()"))
        if reached[-1].startswith("Find similar"):
            break
    assert reached[-1].startswith("Find similar to"), reached
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("Enter")
    page.wait_for_function("!location.search.endsWith('_similar=1')")
    assert "_similar=" in page.url


# Of the outline, with the palest that is behind it: Datasette 1.0's bars are gradients.
CONTRAST = """() => {
    const colours = (text) => text.match(/rgba?\\([^)]*\\)/g).filter((c) => !c.endsWith(", 0)"));
    const light = (colour) => {
        const [r, g, b] = colour.match(/[\\d.]+/g).map((c) => c / 255)
            .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    let place = document.activeElement.parentElement;
    const behind = () => {
        const style = getComputedStyle(place);
        return colours(`${style.backgroundColor} ${style.backgroundImage}`);
    };
    while (place.parentElement && !behind().length) place = place.parentElement;
    const own = light(getComputedStyle(document.activeElement).outlineColor);
    return Math.min(...behind().map(light).map(
        (ground) => (Math.max(own, ground) + 0.05) / (Math.min(own, ground) + 0.05)));
}"""


@pytest.mark.parametrize(
    "selector", ["header a", ".image-search-caption a", ".image-search-summary a", "footer a"]
)
def test_where_the_keyboard_is_can_be_seen(page, selector):
    """WCAG asks for 3:1."""
    page.goto(f"{PAGE}?_similar=1")
    page.keyboard.press("Tab")
    page.locator(selector).first.focus()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert page.evaluate(CONTRAST) >= 3


def test_show_more_goes_on_where_the_new_ones_begin(page):
    page.goto(f"{PAGE}?_similar=1&_size=12")
    page.get_by_role("link", name="Show more").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**_size=24#picture-13")
    page.wait_for_function("document.activeElement.id == 'picture-13'")
    assert page.locator("#picture-13").evaluate("e => e.getBoundingClientRect().top") < 200
    page.keyboard.press("Tab")  # on to the link to its row
    assert page.evaluate("document.activeElement.closest('li').querySelector('#picture-13')")


@pytest.mark.parametrize("width", [320, 390, 1200])
def test_the_picture_asked_is_as_large_as_a_match(page, width):
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(f"{PAGE}?_similar=1")
    boxes = [
        page.locator(selector).first.bounding_box()
        for selector in (".image-search-asked img", ".image-search-picture", ".image-search-upload")
    ]
    asked, match, form = boxes
    assert asked["width"] == pytest.approx(asked["height"], abs=1)
    assert asked["width"] == pytest.approx(match["width"], rel=0.1)
    assert form["height"] < 1.75 * asked["height"]
    assert form["x"] + form["width"] <= width
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_without_javascript(chromium, server, picture):
    context = chromium.new_context(base_url=server, java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{PAGE}?category=box")
    page.set_input_files("#image-search-file", file(picture))
    page.get_by_role("button", name="Search", exact=True).click()
    page.wait_for_url("**_upload=*")
    assert labels(page)[0] == "blue box" and len(labels(page)) == 6
    page.set_input_files("#image-search-file", file(b"x" * 21_000_000))
    page.get_by_role("button", name="Search", exact=True).click()
    page.get_by_role("alert").wait_for()
    assert "larger than 20 MB" in page.get_by_role("alert").inner_text()
    context.close()


@pytest.mark.parametrize(
    "path",
    [
        "/shop/products?category=box",
        "/shop/products/1",
        PAGE,
        f"{PAGE}?_similar=1",
        f"{PAGE}?_similar=1&category=box&price__lt=60&_where=name+like+'%25a+long+condition%25'",
        f"{PAGE}?_similar=1&name__contains={'verylongword' * 12}",
        "/-/image-search",
    ],
)
def test_phone_and_names(page, path):
    page.set_viewport_size(PHONE)
    page.goto(path)
    page.wait_for_load_state("networkidle")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert page.locator("img:not([alt])").count() == 0
    nameless = page.evaluate(
        """() => [...document.querySelectorAll(".image-search a, .image-search-cell a")]
            .filter(a => !a.closest("[aria-hidden=true]"))
            .filter(a => !(a.getAttribute("aria-label") || a.textContent.trim()))
            .map(a => a.outerHTML)"""
    )
    assert nameless == []
    small = page.evaluate(
        """() => [...document.querySelectorAll(".image-search-filters a, .image-search-choose *")]
            .filter(e => e.offsetParent)
            .map(e => e.getBoundingClientRect())
            .filter(box => box.height < 24 || box.width < 24).length"""
    )
    assert small == 0


def test_what_is_not_there_is_repeated_within_a_phone(chromium, server):
    page = chromium.new_context(base_url=server, viewport=PHONE).new_page()
    for name in ("_similar", "_collection", "_size"):
        page.goto(f"{PAGE}?{name}={'x' * 150}")
        assert "x" * 90 in page.locator("body").inner_text()
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    page.context.close()


def test_no_inline_script_of_ours(page):
    page.goto(f"{PAGE}?_similar=1")
    inline = page.locator("script:not([src])").all_inner_texts()
    assert not any("image-search" in text for text in inline)
