"""One call on Asterisk: the caller's channel, our mixing bridge, our external-media channel.

    open_media ─▶ POST mixing bridge ┐
                  POST external media ├─ at once; the answer announces its RTP address
                  TIMEOUT(absolute)  ┘
    join ───────▶ wait for the external media's own StasisStart (before it, 422), then add both
    release ────▶ DELETE external media, DELETE mixing bridge, by name

The caller may be gone between any two of these steps. Nothing is then left behind, because what is
made is noted before it is asked for, because a request to make something is never abandoned half
way (a cancelled POST may still be carried out, after the DELETE that was to undo it), and because
`release` first waits for such requests.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Final, Literal

from bridge.errors import PbxGone, PbxRefused, PbxUnreachable
from bridge.pbx.ari import Ari, Dropped
from bridge.pbx.backoff import Backoff
from bridge.pbx.base import Address, Codec, HungUp, Incoming, MediaLost, Owner, PbxEvent
from bridge.pbx.names import FORMATS, Name, app_of, new_token, parse_name
from bridge.pbx.settings import AsteriskSettings

log = logging.getLogger(__name__)

Spawn = Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]]

_NET: Final = "TIMEOUT(absolute)"
# Our dialplan fragment sets _NET itself, notes it here, and takes it away again when the call comes
# back to it; a transferred call does not come back.
_DIALPLAN_NET: Final = "ARI_BRIDGE_NET"
# What may stand in a dialplan's context or extension, and nothing that its functions would parse.
_DIALPLAN_WORD: Final = re.compile(r"[A-Za-z0-9_*#+.\-]{1,79}")
# Events that nobody fetches, beyond which keys and holds are dropped (never the last event).
_MOST_EVENTS: Final = 256


# Asterisk's name, ours, and by how much it is multiplied. Its `txjitter` is what it measured
# itself, its `rxjitter` what the phone reported; with losses it is the other way round (22.10).
_STATISTICS: Final = (
    ("rxcount", "received", 1),
    ("rxploss", "lost", 1),
    ("txjitter", "jitter_ms", 1000),
    ("txcount", "sent", 1),
    ("txploss", "lost_there", 1),
    ("rxjitter", "jitter_there_ms", 1000),
    ("rtt", "round_trip_ms", 1000),
)


class AsteriskLeg:
    """One call: a `Leg`. Made by `AsteriskPbx`, which also tells it what Asterisk tells."""

    def __init__(
        self,
        ari: Ari,
        settings: AsteriskSettings,
        incoming: Incoming,
        spawn: Spawn,
        owner: Owner | None = None,
        app: str = "",
    ) -> None:
        self.incoming = incoming
        self.app = app or settings.app
        """The application that the caller is in."""
        self.home = self.app
        """Our own application."""
        self.events: asyncio.Queue[PbxEvent] = asyncio.Queue()
        self.token = new_token()
        self.ended: str | None = None
        """The cause in `HungUp`, once the call has left us."""
        self._ari = ari
        self._settings = settings
        self._spawn = spawn
        self._owner = owner or _Sole()
        self._forgotten = False
        self.foundling = False
        """Found in an application of ours, where other workers' calls may be as well: it isn't
        known yet whose he is."""
        self._arrived = asyncio.Event()
        self._move_failed = False
        self._hangup_requested = False
        self._sent_away = False
        self._making: set[asyncio.Task[Any]] = set()
        self._releasing: asyncio.Task[None] | None = None
        self._bridge: Literal["none", "tried", "made"] = "none"
        self._media_n = 0
        # asked: its POST is on the way; coming: answered, its StasisStart is not there yet.
        self._media: Literal["none", "asked", "coming", "up", "ended"] = "none"
        self._changed = asyncio.Event()
        self._net_before: tuple[float, float] | None = None

    # What Asterisk tells, from AsteriskPbx: never waits.

    def tell(self, event: PbxEvent) -> None:
        """Queue an event for the leg's owner."""
        if self.ended is not None:
            return
        if self.events.qsize() >= _MOST_EVENTS:
            log.warning("call %s: nobody fetches its events; dropped one", self.incoming.call_id)
            return
        self.events.put_nowait(event)

    def hangup_requested(self) -> None:
        """The channel is being hung up, so its leaving is no transfer."""
        self._hangup_requested = True

    def end(self, cause: Literal["hangup", "left", "lost", "taken", "moved"] | None = None) -> None:
        """The caller's channel left us."""
        if self.ended is None:
            cause = cause or ("hangup" if self._hangup_requested else "left")
            self.ended = cause
            self.events.put_nowait(HungUp(cause))
            self._changed.set()

    def media_started(self, n: int) -> None:
        """The external-media channel's own StasisStart came."""
        if n == self._media_n and self._media in ("asked", "coming"):
            self._media = "up"
            self._changed.set()

    def media_ended(self, n: int) -> None:
        """An external-media channel is gone."""
        if n == self._media_n and self._media in ("asked", "coming", "up"):
            self._media = "ended"
            self._changed.set()
            if self._releasing is None:
                self.tell(MediaLost())

    def still_here(self) -> None:
        """Asterisk says that the caller is with us: a release that gave up begins anew."""
        if self._releasing is not None and self._releasing.done():
            self._sent_away = False
            self._releasing = self._spawn(self._release())

    def arrived(self, app: str) -> None:
        """The caller's channel entered an application of ours."""
        self.app = app
        self._arrived.set()

    def move_failed(self) -> None:
        """The caller's channel could not be moved away."""
        self._move_failed = True
        self._changed.set()

    @property
    def media_channel(self) -> tuple[str, int] | None:
        """Id and number of the external-media channel that must be there now."""
        if self._media in ("coming", "up"):
            return self._media_id(self._media_n), self._media_n
        return None

    # The port.

    @property
    def handles(self) -> Mapping[str, str]:
        """What was made for the call so far."""
        made: dict[str, str] = {}
        if self._bridge == "made":
            made["bridge_id"] = self._bridge_id
        if self._media in ("coming", "up"):
            made["media_id"] = self._media_id(self._media_n)
        if self._net_before is not None:
            made["net_s"] = f"{self._net_before[0]:.3f}"
        return made

    def forget(self) -> None:
        """Another worker owns the call: keep our hands off it."""
        self._forgotten = True
        self.end("moved")

    async def pass_on(self, worker: str) -> None:
        """Move the caller to another worker; a 204 is no success, his leaving us is."""
        await self._do(
            "channels.move",
            app=app_of(self._settings.app, worker),
            appArgs=",".join(self.incoming.args),
        )
        try:
            async with asyncio.timeout(self._settings.move_timeout_s):
                while self.ended is None and not self._move_failed:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            self._move_failed = True
        if self._move_failed and self.ended is None:
            self._move_failed = False
            raise PbxRefused(f"Asterisk could not move the call to worker {worker}")
        self._forgotten = True

    async def fetch(self, handles: Mapping[str, str]) -> None:
        """Bring the call over, with what its former owner made. Raises `PbxGone`."""
        name = parse_name(handles.get("media_id", ""))
        if name is not None and name.n is not None:
            self.token, self._media_n, self._media = name.token, name.n, "coming"
        if handles.get("bridge_id"):
            self._bridge = "made"
        if handles.get("net_s"):
            self._net_before = (float(handles["net_s"]), asyncio.get_running_loop().time())
        await _all(self._fetch_caller(), self._fetch_media())

    async def _fetch_caller(self) -> None:
        await self._do("channels.move", app=self.home, appArgs="resume")
        try:
            await asyncio.wait_for(self._arrived.wait(), self._settings.move_timeout_s)
        except TimeoutError:
            raise PbxGone("the caller did not arrive: hung up meanwhile") from None

    async def _fetch_media(self) -> None:
        if self._media != "coming":
            return
        try:
            await self._call(
                "channels.move",
                channelId=self._media_id(self._media_n),
                app=self.home,
                appArgs="resume",
            )
            await self._media_is_up()
        except (PbxGone, PbxRefused):
            self.media_ended(self._media_n)

    async def answer(self) -> None:
        """Answer the caller."""
        await self._do("channels.answer")

    async def open_media(self, to: Address, codec: Codec) -> Address:
        """Make a mixing bridge and an external-media channel that sends to `to`."""
        self._check()
        task = self._spawn(self._make(to, codec))
        self._making.add(task)
        task.add_done_callback(self._making.discard)
        address: Address = await asyncio.shield(task)
        self._check()
        return address

    async def join(self) -> None:
        """Put the caller and the external media into the mixing bridge."""
        await self._media_is_up()
        both = [self.incoming.call_id, self._media_id(self._media_n)]
        try:
            await self._call("bridges.addChannel", bridgeId=self._bridge_id, channel=both)
        except PbxGone:
            if self.ended is None and self._media == "ended":
                raise PbxRefused("Asterisk ended the external media: see its log") from None
            raise

    async def extension_exists(self, extension: str, context: str) -> bool:
        """Whether the dialplan has it, with a priority 1."""
        if not (_DIALPLAN_WORD.fullmatch(extension) and _DIALPLAN_WORD.fullmatch(context)):
            return False
        return await self.get_variable(f"DIALPLAN_EXISTS({context},{extension},1)") == "1"

    async def transfer(self, extension: str, context: str) -> None:
        """Hand the caller to an extension."""
        # Asterisk answers 204 to any extension, and sends a wrong one to `i`.
        if not await self.extension_exists(extension, context):
            raise PbxRefused(
                f"the dialplan has no extension '{extension}' in context '{context}': "
                "name one that it has"
            )
        await self._take_net_away()
        if await self.get_variable(_DIALPLAN_NET) not in (None, "", "0"):
            await self.set_variable(_NET, "0")
        await self._do(
            "channels.continueInDialplan", context=context, extension=extension, priority=1
        )
        self._sent_away = True

    async def leave(self, variables: Mapping[str, str]) -> None:
        """Set channel variables, and let the dialplan go on after Stasis()."""
        await _all(self._take_net_away(), *(self.set_variable(n, v) for n, v in variables.items()))
        await self._do("channels.continueInDialplan")
        self._sent_away = True

    async def hang_up(self) -> None:
        """End the call."""
        if self.ended is None:
            await self._call("channels.hangup", channelId=self.incoming.call_id, ok=(404,))
            self._sent_away = True

    async def get_variable(self, name: str) -> str | None:
        """A channel variable or dialplan function's value; None if it has none."""
        try:
            answer = await self._do("channels.getChannelVar", variable=name)
        except PbxGone as gone:
            if "variable was not found" in str(gone):
                return None
            raise
        value = answer["value"]
        return value if isinstance(value, str) else None

    async def set_variable(self, name: str, value: str) -> None:
        """Set a channel variable."""
        await self._do("channels.setChannelVar", variable=name, value=value)

    async def statistics(self) -> Mapping[str, float]:
        """RTP statistics of the caller's own leg."""
        # 403: not an RTP channel (Local, DAHDI); 404: no RTP yet.
        table = await self._do("channels.rtpstatistics", ok=(403, 404)) or {}
        return {ours: float(table[name]) * by for name, ours, by in _STATISTICS if name in table}

    async def release(self) -> None:
        """Take away what we made for the call; a caller who is still here goes on."""
        if self._releasing is None:
            self._releasing = self._spawn(self._release())
            self._changed.set()
        await asyncio.shield(self._releasing)

    # How.

    @property
    def _bridge_id(self) -> str:
        return str(Name(self.incoming.call_id, self.token))

    def _media_id(self, n: int) -> str:
        return str(Name(self.incoming.call_id, self.token, n))

    def _check(self) -> None:
        if self.ended is not None or self._releasing is not None:
            raise PbxGone(f"the call has ended ({self.ended or 'released'})")

    async def _do(self, operation: str, ok: tuple[int, ...] = (), **parameters: Any) -> Any:
        self._check()
        return await self._call(operation, ok=ok, channelId=self.incoming.call_id, **parameters)

    async def _call(self, operation: str, **parameters: Any) -> Any:
        """Every command of ours for this call goes through here: none once it is another's."""
        await self._owner.sure()
        if self._forgotten:
            raise PbxGone("another worker owns the call")
        return await self._ari.call(operation, **parameters)

    async def _make(self, to: Address, codec: Codec) -> Address:
        self.foundling = False
        if self._media not in ("none", "ended"):  # never two voices in one mixing bridge
            await self._call("channels.hangup", channelId=self._media_id(self._media_n), ok=(404,))
        if self._bridge == "made":
            return await self._make_media(to, codec)
        self._bridge = "tried"
        address, _, _ = await _all(
            self._make_media(to, codec),
            self._call(
                "bridges.createWithId",
                bridgeId=self._bridge_id,
                name=self._bridge_id,
                type="mixing",
                ok=(409,),  # made by an earlier try whose answer was lost
            ),
            self._spread_net(),
        )
        self._bridge = "made"
        return address  # type: ignore[no-any-return]

    async def _make_media(self, to: Address, codec: Codec) -> Address:
        host = f"[{to[0]}]" if ":" in to[0] else to[0]
        for last in (False, True):
            self._media_n += 1
            self._media = "asked"
            try:
                made = await self._call(
                    "channels.externalMedia",
                    again=False,  # the same id twice is a 500: the next try takes the next id
                    channelId=self._media_id(self._media_n),
                    app=self.home,
                    external_host=f"{host}:{to[1]}",
                    format=FORMATS[codec],
                    variables={_NET: str(self._settings.max_call_s)},
                )
                break
            except Dropped:
                if last:
                    raise
        if self._media == "asked":
            self._media = "coming"
        told = made["channelvars"]
        address = self._settings.rtp_address or told["UNICASTRTP_LOCAL_ADDRESS"]
        return address, int(told["UNICASTRTP_LOCAL_PORT"])

    async def _media_is_up(self) -> None:
        if self._media == "none":
            raise PbxRefused("there is no external media to join: open it first")
        try:
            async with asyncio.timeout(self._settings.media_timeout_s):
                while True:
                    self._check()
                    if self._media in ("up", "ended"):
                        break
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise PbxRefused(
                "Asterisk's external media did not come up within "
                f"{self._settings.media_timeout_s:g} s: see its log"
            ) from None
        if self._media == "ended":
            raise PbxRefused("Asterisk ended the external media: see its log")

    async def _spread_net(self) -> None:
        """Have Asterisk end the call if all of us are dead, but no later than the dialplan would.

        A limit that the dialplan set and that is shorter stays.
        """
        try:
            left_s = float(await self.get_variable(_NET) or 0)
            if 0 < left_s <= self._settings.max_call_s:
                return
            self._net_before = (left_s, asyncio.get_running_loop().time())
            await self.set_variable(_NET, str(self._settings.max_call_s))
        except PbxRefused as error:
            log.warning(
                "call %s has no time limit: load func_timeout.so (%s)", self.incoming.call_id, error
            )

    async def _take_net_away(self) -> None:
        """Give the dialplan its own limit back: our net must not cut a call that has left us."""
        if self._net_before is None:
            return
        (left_s, then), self._net_before = self._net_before, None
        if left_s:
            left_s = max(1.0, left_s - (asyncio.get_running_loop().time() - then))
        await self.set_variable(_NET, f"{left_s:.3f}" if left_s else "0")

    async def _release(self) -> None:
        if self._making:
            await asyncio.wait(self._making)
        if not self._forgotten and not await self._owner.mine(self.incoming.call_id):
            log.warning("call %s was taken over: leaving it alone", self.incoming.call_id)
            self._forgotten = True
        if self._forgotten:
            return
        if self.ended is None and not self._sent_away:
            await self._persist(self._send_on)
        await asyncio.gather(
            *(self._persist(self._removal("channels.hangup", channelId=self._media_id(n)))
              for n in range(1, self._media_n + 1)),
            *(self._persist(self._removal("bridges.destroy", bridgeId=self._bridge_id))
              for _ in (1,) if self._bridge != "none"),
        )  # fmt: skip

    async def _send_on(self) -> None:
        call_id = self.incoming.call_id
        if self._net_before is not None:
            await self._call("channels.setChannelVar", channelId=call_id, variable=_NET, value="0")
        await self._call("channels.continueInDialplan", channelId=call_id)
        log.info("call %s goes on in the dialplan", call_id)

    def _removal(self, operation: str, **thing: Any) -> Callable[[], Awaitable[None]]:
        return lambda: self._call(operation, ok=(404,), **thing)

    async def _persist(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do it, again and again while Asterisk does not answer; what is left then is swept."""
        clock = asyncio.get_running_loop().time
        until = clock() + self._settings.release_timeout_s
        backoff = Backoff(self._settings.reconnect_first_s, self._settings.reconnect_most_s)
        while True:
            try:
                return await work()
            except PbxGone:
                return None
            except PbxRefused as error:
                log.warning("call %s: %s", self.incoming.call_id, error)
                return None
            except PbxUnreachable as error:
                wait_s = backoff.next_s()
                if clock() + wait_s > until:
                    log.warning(
                        "call %s: what we made for it stays until Asterisk is back: %s",
                        self.incoming.call_id,
                        error,
                    )
                    return None
                await asyncio.sleep(wait_s)


class _Sole:
    """The owner of everything, where there is one worker only."""

    async def sure(self) -> None:
        return None

    async def mine(self, call_id: str) -> bool:
        return True


async def _all(*work: Awaitable[Any]) -> list[Any]:
    """Do all at once and wait for all; raise the first error, none of them half done."""
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return list(results)
