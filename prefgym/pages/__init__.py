"""Pages that need no network, no script and nothing beside them: the shell and its style, written whole or not at all.

`markup` has pieces of HTML, `svg` figures in the page's colours.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template


def whole(title: str, parts: Iterable[str], style: str = "") -> str:
    """A page of parts (HTML; empty ones are left out), with `style` (CSS) after that of all pages."""
    shell, common = (files(__package__).joinpath(f"page.{kind}").read_text("utf-8") for kind in ("html", "css"))
    return Template(shell).substitute(title=escape(title), style=common + style, body="\n".join(filter(None, parts)))


def write_whole(path: Path, content: str | bytes) -> Path:
    """Writes a file that is whole or not there; returns its path. Another process may write the same meanwhile.

    Raises:
        OSError: it cannot be written; an older one is kept.
    """
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        draft.write_bytes(content.encode() if isinstance(content, str) else content)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path
