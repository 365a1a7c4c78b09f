"""Takes the README's screenshots of a running demo.

make demo &
python docs/screenshots.py [--url http://127.0.0.1:8001] [--browser /usr/bin/chromium]
"""

import argparse
import io
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

IMAGES = Path(__file__).with_name("images")
PAGE = "/shop/products/-/image-search"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:8001")
    parser.add_argument("--browser", default="/usr/bin/chromium")
    arguments = parser.parse_args()
    IMAGES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=arguments.browser, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1200, "height": 820})
        page.goto(f"{arguments.url}/shop/products?_size=24&kind=4")
        page.locator("table.rows-and-columns").scroll_into_view_if_needed()
        page.evaluate("document.querySelector('table.rows-and-columns').scrollIntoView()")
        save(page, "table")
        # Five of its twelve are of its kind: the middle of what `mini` does in this shop.
        page.goto(f"{arguments.url}{PAGE}?_similar=17&_size=12")
        save(page, "similar")
        # A picture that is in no row: a product's, turned and cut.
        thumbnail = page.request.get(f"{arguments.url}{PAGE}/thumbnail/120").body()
        picture = Image.open(io.BytesIO(thumbnail)).rotate(12, fillcolor="white")
        buffer = io.BytesIO()
        picture.crop((20, 20, 230, 230)).save(buffer, "JPEG")
        page.goto(f"{arguments.url}{PAGE}?_size=12")
        file = {"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": buffer.getvalue()}
        page.set_input_files("input[type=file]", file)
        page.wait_for_url("**_upload=**")
        save(page, "upload")
        browser.close()


def save(page, name):
    """A PNG of 256 colours: a quarter of the bytes, no visible difference."""
    page.wait_for_load_state("networkidle")
    shot = Image.open(io.BytesIO(page.screenshot()))
    shot.convert("RGB").quantize(256).save(IMAGES / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
