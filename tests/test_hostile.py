"""Names and values from data stay data: in HTML, headers, JSON, SQL and on a terminal."""

from __future__ import annotations

import html
import json
import re
import sqlite3
import subprocess
import sys
from html.parser import HTMLParser
from urllib.parse import quote, unquote_plus, urlencode

import hostile
import pytest
from conftest import draw
from datasette.app import Datasette

from datasette_image_search.wording import visible


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    return hostile.build(tmp_path_factory.mktemp("hostile") / "of data")


@pytest.fixture
def ds(database):
    return Datasette([str(database)])


class Page(HTMLParser):
    """What a browser would act on."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.tags, self.handlers, self.urls, self.scripts = [], [], [], []
        self._in_script = False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.handlers += [(tag, name) for name, _ in attributes if name.startswith("on")]
        self.urls += [
            v or "" for n, v in attributes if n in ("href", "src", "action", "formaction")
        ]
        self._in_script = tag == "script"

    def handle_endtag(self, tag):
        self._in_script = False

    def handle_data(self, data):
        if self._in_script and data.strip():
            self.scripts.append(data.strip())


async def pages(ds) -> list[str]:
    """Every page of ours, with each hostile text in every parameter it takes."""
    found = ["/-/image-search"]
    for table in (hostile.TABLE, "pairs", "files", "broken", "absent" + hostile.TABLE):
        found.append(f"{hostile.page_of(table)}/-/image-search")
    for text in hostile.TEXTS:
        for name in ("_similar", "_collection", "_size", hostile.KEY, "_search", text):
            found.append(f"{found[1]}?{urlencode({name: text})}")
        found.append(f"{found[2]}?{urlencode({'_similar': text})}")
    page = f"{hostile.page_of(hostile.TABLE)}/-/image-search"
    found += [f"{page}?{urlencode({'_collection': hostile.COLLECTION, hostile.LABEL: text})}"
              for text in hostile.TEXTS]  # fmt: skip
    found += [f"{page}?{urlencode({'_where': text})}" for text in hostile.TEXTS]
    return found


async def links_of(ds, path: str) -> list[str]:
    text = (await ds.client.get(path)).text
    return [html.unescape(link) for link in re.findall(r'href="([^"]*)"', text)]


async def test_html(ds):
    """No tag, no handler, no script, no address of another kind comes from data."""
    await ds.invoke_startup()
    scripts = set()  # of Datasette's own base page
    for path in ("/", "/nothing-is-here"):
        scripts |= set(Page((await ds.client.get(path)).text).scripts)
    paths = await pages(ds)
    for table in (hostile.TABLE, "pairs", "files"):
        links = await links_of(ds, f"{hostile.page_of(table)}/-/image-search")
        similar = [link for link in links if "_similar=" in link]
        assert len(similar) == len(hostile.TEXTS)
        paths += similar
    for path in paths:
        answer = await ds.client.get(path)
        assert answer.status_code in (200, 400, 404), path
        page = Page(answer.text)
        assert page.handlers == [], path
        assert set(page.scripts) <= scripts, path
        assert not {"b", "i", "textarea"} & set(page.tags), path
        schemes = {
            url.partition(":")[0] for url in page.urls if not url.startswith(("/", "?", "#"))
        }
        assert schemes <= {"https", "data"}, path
        outside = {url for url in page.urls if url.startswith(("http", "//"))}
        assert {url for url in outside if "datasette.io" not in url} == set(), path
        if hostile.TEXTS[11] in unquote_plus(path):  # no template runs on it
            assert "{{7*7}}" in html.unescape(answer.text), path
        assert "set-cookie" not in answer.headers or "hostile" not in answer.headers["set-cookie"]


async def test_every_link_has_words(ds):
    await ds.invoke_startup()
    for table in (hostile.TABLE, "pairs", "files"):
        page = (await ds.client.get(f"{hostile.page_of(table)}/-/image-search")).text
        captions = re.findall(r'image-search-caption">\s*<a href="[^"]*">([^<]*)</a>', page)
        assert len(captions) == len(hostile.TEXTS)
        assert all(html.unescape(words).strip() for words in captions)
    assert "row +" in (await ds.client.get(f"{hostile.page_of(hostile.TABLE)}/-/image-search")).text


async def test_every_row_is_found_by_its_own_link(ds):
    await ds.invoke_startup()
    for table in (hostile.TABLE, "pairs", "files"):
        page = f"{hostile.page_of(table)}/-/image-search"
        for link in [link for link in await links_of(ds, page) if "_similar=" in link]:
            path, _, query = link.partition("?")
            data = (await ds.client.get(f"{path}.json?{query}")).json()
            assert len(data["rows"]) >= len(hostile.TEXTS) - 1, link
            found = await ds.client.get(link)
            assert found.status_code == 200
            sources = re.findall(r'<img src="(/[^"]+)"', found.text)
            assert len(sources) >= len(hostile.TEXTS) - 1
            for source in sources[:4]:
                picture = await ds.client.get(html.unescape(source))
                assert picture.status_code == 200
                assert re.fullmatch(r'"[0-9a-f]+"', picture.headers["etag"])


async def test_cells_of_datasettes_own_pages(ds):
    await ds.invoke_startup()
    for table in (hostile.TABLE, "pairs", "files", "broken"):
        answer = await ds.client.get(f"{hostile.page_of(table)}?_size=100")
        assert answer.status_code == 200
        cells = re.findall(r'<div class="image-search-cell">.*?</div>', answer.text, re.DOTALL)
        assert len(cells) == (1 if table == "broken" else len(hostile.TEXTS))
        page = Page("".join(cells))
        assert set(page.tags) <= {"div", "a", "img", "span"} and page.handlers == []
        assert all(url.startswith("/") for url in page.urls), page.urls


async def test_redirects_carry_no_header(ds, database):
    picture = next(database.parent.glob("*.png")).read_bytes()
    page = f"{hostile.page_of(hostile.TABLE)}/-/image-search"
    for text in hostile.TEXTS:
        query = urlencode({hostile.KEY: text, text: "x", "_collection": hostile.COLLECTION})
        sent = await ds.client.post(f"{page}?{query}", files={"image": (text[:30], picture)})
        assert sent.status_code == 303
        location = sent.headers["location"]
        assert location.startswith("/") and not location.startswith("//")
        assert location.isascii() and location.isprintable()
        assert "hostile" not in sent.headers.get("set-cookie", "")
        assert (await ds.client.get(location)).status_code in (200, 400)


async def test_json_is_json(ds):
    for path in (await pages(ds))[1:]:
        answer = await ds.client.get(path.replace("/-/image-search", "/-/image-search.json", 1))
        assert answer.headers["content-type"].startswith("application/json"), path
        data = json.loads(answer.text)
        assert data["ok"] is (answer.status_code == 200)
        if not data["ok"]:
            assert visible(data["error"]) == data["error"]
            assert len(data["error"]) < 1500


async def test_thumbnail_errors_are_plain_text(ds):
    page = f"{hostile.page_of(hostile.TABLE)}/-/image-search/thumbnail"
    for text in hostile.TEXTS:
        for path in (
            f"{page}/{quote(text, safe='')}",
            f"{page}/1?{urlencode({'_collection': text})}",
        ):
            answer = await ds.client.get(path)
            assert answer.status_code in (200, 302, 404)
            if answer.status_code == 404 and "<html" not in answer.text.lower():
                assert answer.headers["content-type"].startswith("text/plain")
                assert answer.headers["x-content-type-options"] == "nosniff"


async def test_half_a_character_is_no_key(ds):
    """JSON can write one; nothing else can."""
    page = f"{hostile.page_of('pairs')}/-/image-search"
    for key in ('["\\ud800",1]', '["\\udfff","\\ud800"]'):
        for path in (
            f"{page}/thumbnail/{quote(key, safe='')}",
            f"{page}.json?_similar={quote(key)}",
        ):
            assert (await ds.client.get(path)).status_code in (400, 404)


@pytest.mark.parametrize(
    "key",
    ['a"b', "a.b", "a]b", "[0]", "$", "$.x", "0", "a'b", "k\\", "é", "1a", " ", "score"],
)
async def test_view_and_edit_sql_whatever_the_key_is_called(torch_home, tmp_path, key):
    from datasette_image_search.collection import EmbedOptions, embed

    rows = []
    for number, colour in enumerate(("red", "green", "blue")):
        draw("box", colour, (40, 40)).save(tmp_path / f"{colour}.png")
        rows.append((number, f"{colour}.png"))
    table = 't"a'
    conn = sqlite3.connect(tmp_path / "x.db")
    quoted = '"{}"'.format(key.replace('"', '""'))
    conn.execute(f'create table "t""a" ({quoted} integer primary key, picture)')
    conn.executemany('insert into "t""a" values (?, ?)', rows)
    conn.commit()
    conn.close()
    embed(tmp_path / "x.db", table, EmbedOptions(model="resnet18", column="picture"))
    ds = Datasette([str(tmp_path / "x.db")])
    await ds.invoke_startup()
    page = f"{ds.urls.table('x', table)}/-/image-search?_similar=1"
    links = await links_of(ds, page)
    path, query = next(link for link in links if "sql=" in link).split("?")
    answer = await ds.client.get(f"{path}.json?{query}&_shape=array")
    assert answer.status_code == 200, answer.text
    assert len(answer.json()) == 2, query


# -- on a terminal -----------------------------------------------------------------------------

COMMANDS = [
    ["status", "{db}"], ["status", "{db}", "--json"], ["verify", "{db}"], ["repair", "{db}"],
    ["similar", "{db}", hostile.TABLE, "__proto__"],
    ["similar", "{db}", hostile.TABLE, "__proto__", "--format", "json", "-k", "40"],
    ["similar", "{db}", hostile.TABLE, "__proto__", "--format", "csv", "-k", "40"],
    ["similar", "{db}", hostile.COLLECTION, "__proto__", "-k", "40"],
    ["similar", "{db}", "nothing", "1"], ["similar", "{db}", hostile.TABLE, "\x1b[31m"],
    ["similar", "{db}", "broken", hostile.TEXTS[12]], ["embed", "{db}", "broken"],
    ["embed", "{db}", "no\x1b[31m"], ["embed", "{db}", hostile.TABLE, "--column", "no"],
    ["evaluate", "{db}", hostile.TABLE, "--label", hostile.LABEL],
    ["evaluate", "{db}", hostile.TABLE, "--label", "no\x1b[31m"],
]  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="made for POSIX terminals")
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command)[:40])
def test_nothing_acts_on_a_terminal(database, command):
    arguments = [part.replace("{db}", str(database)) for part in command]
    code = "import sys; from datasette_image_search.cli import image_search; image_search()"
    said = on_terminal([sys.executable, "-c", code, *arguments])
    assert said.strip()
    for line in re.sub(
        r"\x1b\[[?0-9;]*[KhlJm]|\r", "", said.partition("Embedding")[0]
    ).splitlines():
        assert visible(line) == line
    assert "\x1b]" not in said and "\x9b" not in said and "\u202e" not in said
    assert "\x1b[31m" not in said


def on_terminal(command: list[str]) -> str:
    """What the command writes to a terminal, where colours and bars are switched on."""
    import os
    import pty

    master, slave = pty.openpty()
    process = subprocess.Popen(command, stdout=slave, stderr=slave, stdin=slave)
    os.close(slave)
    pieces = []
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:  # Linux says so at the end
            break
        if not piece:
            break
        pieces.append(piece)
    process.wait()
    os.close(master)
    return b"".join(pieces).decode()


def test_a_file_gets_what_the_table_has(database):
    code = "from datasette_image_search.cli import image_search; image_search()"
    command = ["similar", str(database), hostile.TABLE, "__proto__", "-k", "40"]
    for style in ("csv", "json"):
        done = subprocess.run(
            [sys.executable, "-c", code, *command, "--format", style], capture_output=True
        )
        text = done.stdout.decode()
        if style == "csv":
            assert "\x1b[31mred\x1b]0;title\x07\x9b2J\x7f" in text
        else:
            assert {row[hostile.KEY] for row in json.loads(text)} >= set(hostile.TEXTS) - {
                "__proto__"
            }
