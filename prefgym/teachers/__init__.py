"""Teachers: who answers queries. Synthetic ones are listed here; people answer through the store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from prefgym.registry import Registry

if TYPE_CHECKING:
    from prefgym.comparisons import Comparison, Query


class Teacher(Protocol):
    """Takes queries and, at once or later, gives comparisons."""

    def submit(self, queries: Sequence[Query]) -> None:
        """Puts queries to the teacher; returns without waiting for answers."""
        ...

    def collect(self) -> list[Comparison]:
        """The comparisons answered since the last call: each submitted query appears once, skips included."""
        ...


teachers = Registry(
    "teacher",
    {
        "oracle": "prefgym.teachers.synthetic:oracle",
        "rational": "prefgym.teachers.synthetic:rational",
        "myopic": "prefgym.teachers.synthetic:myopic",
        "mistaken": "prefgym.teachers.synthetic:mistaken",
        "skipping": "prefgym.teachers.synthetic:skipping",
        "equal": "prefgym.teachers.synthetic:equal",
        "noisy": "prefgym.teachers.synthetic:noisy",
    },
)
"""Name to `make(seed=0, **options) -> Teacher`."""
