"""Options as JSON and back."""

from __future__ import annotations

from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

T = TypeVar("T")


def to_json(config: Any) -> dict[str, Any]:
    """A dataclass, maybe of dataclasses, as JSON can hold it; paths become absolute."""
    return _plain(asdict(config))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return str(value.absolute()) if isinstance(value, Path) else value


def from_json(kind: type[T], values: dict[str, Any]) -> T:
    """The dataclass again; options that this version does not know are left out, missing ones have their default."""
    hints = get_type_hints(kind)
    known = [one.name for one in fields(kind) if one.name in values]  # type: ignore[arg-type]
    return kind(**{name: _value(hints[name], values[name]) for name in known})


def _value(hint: Any, value: Any) -> Any:
    if is_dataclass(hint):
        return from_json(hint, value)  # type: ignore[arg-type]
    if isinstance(value, list):  # JSON has no tuples
        return tuple(value)
    return Path(value) if value is not None and "Path" in str(hint) else value


def changed(config: Any, default: Any, prefix: str = "") -> list[str]:
    """Names of the options that differ from the default."""
    names = []
    for one in fields(default):
        value, usual = getattr(config, one.name), getattr(default, one.name)
        if is_dataclass(usual):
            names += changed(value, usual, f"{prefix}{one.name}.")
        elif value != usual:
            names.append(prefix + one.name)
    return names
