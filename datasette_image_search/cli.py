"""``datasette image-search …``: words in, words out."""

import click


def register(cli):
    @cli.group(name="image-search")
    def image_search():
        "Find the rows of a table whose pictures look alike"
