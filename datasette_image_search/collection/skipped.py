"""What a load leaves out, and how it says so: what is damaged first, since nobody expects it."""

from __future__ import annotations

from ..pictures.kinds import KINDS

# Each damaged file is named; of so many that a disk must be at fault, the first.
_MOST_NAMED = 100
_MOST_FOLDERS = 10


class Skipped:
    """The files that were left out, with their reasons."""

    def __init__(self):
        self.count = 0
        self._named: list[str] = []
        self._of_kinds: dict[str, list[str]] = {}  # the sentence about a kind → its files
        self._folders: list[str] = []

    def add(self, path: str, reason: str) -> None:
        self.count += 1
        if reason in KINDS:
            self._of_kinds.setdefault(reason, []).append(path)
        else:
            self._named.append(f"{path}: {reason}")

    def add_folder(self, path: str) -> None:
        """A linked one, which may lead anywhere, also back to where it lies."""
        self._folders.append(path)

    def lines(self) -> list[str]:
        """One for each damaged file, each kind that cannot be read, and the linked folders."""
        lines = self._named[:_MOST_NAMED]
        more = len(self._named) - len(lines)
        if more:
            lines.append(f"{more:,} more such file{'s' if more > 1 else ''}.")
        for reason, paths in sorted(self._of_kinds.items()):
            if len(paths) == 1:
                lines.append(f"{paths[0]}: {reason}")
            else:
                lines.append(
                    f"{len(paths):,} {KINDS[reason]}, as {paths[0]}: "
                    "they cannot be read here, save them as JPEG or PNG."
                )
        if self._folders:
            named = ", ".join(self._folders[:_MOST_FOLDERS])
            more = len(self._folders) - _MOST_FOLDERS
            rest = f" and {more:,} more" if more > 0 else ""
            lines.append(f"linked folders, which are not entered: {named}{rest}.")
        return lines
