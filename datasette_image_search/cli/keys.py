"""Keys among the words of a command."""

from __future__ import annotations

import click


class TakesKey(click.Command):
    """A command that is given a row's key, which may look like an option: -5 is one, and after
    ``--`` whatever comes. To be made with ``ignore_unknown_options``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        plain = args[args.index("--") + 1 :] if "--" in args else []
        left = super().parse_args(ctx, args)
        given = [ctx.params.get(own.name) for own in self.params if isinstance(own, click.Argument)]
        for word in given:
            if isinstance(word, str) and word.startswith("--") and word not in plain:
                # Whoever types it means an option.
                raise click.NoSuchOption(word.partition("=")[0], ctx=ctx)
        return left
