"""The group of commands, and what all of them have in common: how they fail, and stop."""

from __future__ import annotations

from functools import wraps

import click

from ..errors import ImageSearchError
from ..wording import visible
from .interrupts import interruptible
from .output import show_what_can_be_shown


@click.group(name="image-search")
def image_search():
    """Find the rows of a table whose pictures look alike."""


def command(function, cls=click.Command, **settings):
    """A command of the group: what is expected to fail fails with one sentence, exit code 1."""

    @wraps(function)
    def plain(*arguments, **options):
        show_what_can_be_shown()
        try:
            with interruptible():
                return function(*arguments, **options)
        except ImageSearchError as error:
            raise click.ClickException(_capitalised(str(error))) from error
        except KeyboardInterrupt:
            raise click.ClickException("Stopped; run it again whenever you like.") from None
        except UnicodeEncodeError:
            raise click.ClickException("An argument is not text (UTF-8).") from None
        except BrokenPipeError:
            raise  # `… | head`: click ends without a word
        except OSError as error:
            name = f"{error.filename}: " if error.filename else ""
            raise click.ClickException(visible(f"{name}{error.strerror or error}.")) from error

    name = function.__name__.removesuffix("_command")
    return image_search.command(name=name, cls=cls, context_settings=settings)(plain)


def _capitalised(sentence: str) -> str:
    first = sentence.partition(" ")[0]
    return sentence[:1].upper() + sentence[1:] if first.isalpha() else sentence
