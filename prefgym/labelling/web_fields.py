"""The fields of requests to the labelling page's API, each checked before anything is done."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request

from prefgym.labelling.desk import MAX_SECONDS, Choice, check_annotator

LIMIT = 4096
"""Bytes that a request may bring."""

MOST = 8
"""Tickets that one request may ask for."""

MAX_AFTER = 60.0
"""Seconds for which somebody who leaves may keep what is shown."""

Fields = Mapping[str, Callable[[Any], Any]]


async def body(request: Request) -> bytes:
    """What the request brings; no more is read than it may bring.

    Raises:
        HTTPException: it is not said to be JSON (415), or is too much (413).
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(415, f"the Content-Type must be application/json, got {kind[:80]!r}")
    read = b""
    async for chunk in request.stream():
        read += chunk
        if len(read) > LIMIT:
            raise HTTPException(413, f"a request may bring at most {LIMIT} bytes", {"connection": "close"})
    return read


def parsed(data: bytes) -> dict[str, Any]:
    """The JSON object that these bytes are.

    Raises:
        HTTPException: they are none (400).
    """
    try:
        found = json.loads(data.decode(), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"the request must be JSON in UTF-8: {str(error)[:200]!r}") from error
    if not isinstance(found, dict):
        raise HTTPException(400, f"the request must be a JSON object, got {type(found).__name__}")
    return found


def checked(given: Mapping[str, Any], wanted: Fields, usual: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are wanted, each checked.

    Args:
        given: as they came.
        wanted: what checks and converts each; raises ValueError for what cannot be.
        usual: values of those that may be left out.

    Raises:
        HTTPException: one is missing, not known, or cannot be (422).
    """
    try:
        for name in given:
            if name not in wanted:
                raise ValueError(f"{name[:80]!r} is no field here: choose from {', '.join(wanted) or 'none'}")
        for name in wanted:
            if name not in given and name not in usual:
                raise ValueError(f"`{name}` is missing")
        return {name: check(given.get(name, usual.get(name))) for name, check in wanted.items()}
    except ValueError as error:
        raise HTTPException(422, str(error)) from error


def token(value: Any) -> str:
    """The token of a ticket."""
    if not isinstance(value, str) or not re.fullmatch("[0-9a-f]{32}", value):
        raise ValueError(f"`token` must be a ticket's, 32 hexadecimal digits, got {_short(value)}")
    return value


def choice(value: Any) -> Choice:
    """left, right, tie or skip."""
    if not isinstance(value, str) or value not in tuple(Choice):
        raise ValueError(f"`choice` must be one of {', '.join(Choice)}, got {_short(value)}")
    return Choice(value)


def annotator(value: Any) -> str:
    """A name."""
    if not isinstance(value, str):
        raise ValueError(f"`annotator` must be a name, got {_short(value)}")
    return check_annotator(value)


def seconds(value: Any) -> float:
    """How long somebody may have taken for an answer."""
    return _number("seconds", value, MAX_SECONDS)


def after(value: Any) -> float:
    """Seconds for which somebody who leaves may come back."""
    return _number("after", value, MAX_AFTER)


def ranks(value: Any) -> list[int] | None:
    """Ranks of as many responses as there are, 0 the best; None for cannot tell. Whether they fit, the desk says."""
    if value is None:
        return None
    whole = isinstance(value, list) and all(isinstance(rank, int) and not isinstance(rank, bool) for rank in value)
    if not whole:
        raise ValueError(f"`ranks` must be whole numbers from 0, the best, or null, got {_short(value)}")
    return value


def truth(name: str, value: Any) -> bool:
    """true or false, of the field of this name."""
    if not isinstance(value, bool):
        raise ValueError(f"`{name}` must be true or false, got {_short(value)}")
    return value


def asked(value: Any) -> bool:
    """Whether rankings are wanted, as a URL says it."""
    if value not in ("0", "1"):
        raise ValueError(f"`rankings` must be 0 or 1, got {_short(value)}")
    return value == "1"


def count(value: Any) -> int:
    """How many tickets."""
    if not re.fullmatch("[0-9]{1,3}", value, re.ASCII) or not 1 <= int(value) <= MOST:
        raise ValueError(f"`count` must be a whole number from 1 to {MOST}, got {_short(value)}")
    return int(value)


def known(value: Any) -> frozenset[str]:
    """Tokens of tickets that a page has already, as a URL lists them."""
    listed = value.split(",") if value else []
    if len(listed) > MOST or not all(re.fullmatch("[0-9a-f]{32}", one, re.ASCII) for one in listed):
        raise ValueError(f"`known` must be at most {MOST} tokens with commas between them, got {_short(value)}")
    return frozenset(listed)


def _number(name: str, value: Any, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise ValueError(f"`{name}` must be a number from 0 to {most:g}, got {_short(value)}")
    return float(value)


def _short(value: Any) -> str:
    return repr(value)[:80]


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number in JSON")
