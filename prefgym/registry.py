"""Named parts: a registry maps a name to an import path, so that listing the names imports nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any


class Registry(Mapping[str, Any]):
    """A read-only mapping from names to objects that are imported when first looked up.

    Args:
        kind: what the parts are, for error messages, such as "query strategy".
        paths: name to "module:attribute".
    """

    def __init__(self, kind: str, paths: dict[str, str]) -> None:
        self.kind = kind
        self._paths = dict(paths)

    def __getitem__(self, name: str) -> Any:
        if name not in self._paths:
            raise UnknownNameError(self.kind, name, self._paths)
        module, _, attribute = self._paths[name].partition(":")
        return getattr(import_module(module), attribute)

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)


class UnknownNameError(KeyError):
    """A name that is not registered; the message lists what is, and the nearest."""

    def __init__(self, kind: str, name: str, known: Mapping[str, Any]) -> None:
        close = get_close_matches(str(name), list(known), n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        self.message = f"Unknown {kind} {name!r}.{hint} Known: {', '.join(sorted(known))}."
        super().__init__(self.message)

    def __str__(self) -> str:
        return self.message
