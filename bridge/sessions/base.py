"""The ports to the session store and to the leases, as calls and the reconciler see them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from bridge.sessions.model import Line, Record


class Store(Protocol):
    """Remembers calls. Writes return at once and are carried out in order behind the scenes."""

    def begin(self, call_id: str) -> None:
        """A new call, or one that is ours and begins anew. It is ours from here on, unless another
        worker owns it: then it is lost at once, as with any write."""

    def adopt(self, record: Record, lines: list[Line]) -> None:
        """A call that was claimed for us, with its transcript: it goes on with `put` and `say`."""

    def forget(self, call_id: str) -> None:
        """Write nothing more of a call: it is another's."""

    def put(self, call_id: str, **fields: str | float) -> None:
        """Set fields of the call's record, by their names in `Record`. Of our own calls only."""

    def say(self, call_id: str, line: Line) -> None:
        """Add a line to the call's transcript. Of our own calls only."""

    async def written(self, call_id: str, timeout_s: float) -> bool:
        """Return when all so far of one of our calls is durable (True), or Redis is away."""

    def owns(self, call_id: str) -> bool:
        """Whether a call is ours, as far as is known: no write of it was refused."""

    def when_written(self, call_id: str, then: Callable[[], None]) -> None:
        """Call `then` once all so far of one of our calls is durable; for what a caller waits for:
        before he could notice, and at once where Redis has been slow or is away."""

    def pass_key(self, call_id: str, digit: str) -> None:
        """A caller has pressed a key whose call is on its way to its next owner."""

    async def passed_keys(self, call_id: str) -> str:
        """Such keys, once; for the next owner. Raises `StoreUnreachable`."""

    async def rejoin(self, agent: str, caller: str) -> tuple[Record, list[Line]] | None:
        """A conversation with that agent that was cut off not long ago, once; None: there is none.

        Raises `StoreUnreachable`.
        """

    async def flush(self, timeout_s: float) -> bool:
        """Wait until all is written; False if that took longer than `timeout_s`."""

    async def load(self, call_id: str) -> Record | None:
        """The call's record, if there is one. Raises `StoreUnreachable`."""

    async def transcript(self, call_id: str) -> list[Line]:
        """The call's transcript so far. Raises `StoreUnreachable`."""


@dataclass(frozen=True, slots=True)
class Member:
    """A worker, as the registry knows it."""

    name: str
    alive: bool
    """Its lease runs, by Redis' own time, and it hasn't left."""
    started: float
    load: int
    """Calls that it owns."""
    takes: bool
    """It takes calls (it isn't draining)."""
    place: str = ""
    """Names the media process whose slots it uses: workers of one host have the same."""
    active: int = 0
    """How many workers of its host are meant to take calls; 0: all. The youngest are spares."""
    left: bool = False
    """It has let go of all its calls: they are for the others to take."""
    kept: bool = True
    """Somebody starts it again when it dies: its launcher lives, or a service manager does it."""
    idle_s: float = 0.0
    """Since it last renewed its lease."""


class Leases(Protocol):
    """Who is there, who owns what. All raise `StoreUnreachable`: no decision without Redis."""

    name: str

    @property
    def woke(self) -> float:
        """When we last went on after having been held up, on the monotonic clock."""

    @property
    def place(self) -> str:
        """Our own: see `Member.place`."""

    @property
    def members(self) -> Mapping[str, Member]:
        """As of the last beat, ourselves included."""

    async def beat(self) -> None:
        """Renew our own leases, and see who is there now."""

    async def live(self) -> Mapping[str, str]:
        """The owner of every call that hasn't ended."""

    async def claim(self, call_id: str, owner: str) -> Record | None:
        """Make a call ours that still is `owner`'s; None if it isn't."""

    async def bury(self, worker: str) -> None:
        """Take a dead worker off the lists."""

    async def sure(self) -> None:
        """Return at once, unless we were held up: then when it is known which calls are ours."""

    async def owners(self, call_ids: Collection[str]) -> Mapping[str, str]:
        """Present owner of each call that has a record and hasn't ended."""
