"""Speech to text by Deepgram, as a stream: one connection a call, which hears all of it.

    up    binary linear16, 60 ms at a time; Finalize (say what you have); KeepAlive on hold
    down  Results {start, duration, is_final, from_finalize, channel.alternatives[0].words}

Every word comes with its times in the stream, which are the call's but for where the stream began;
so a turn's words are those that were spoken within it. Results replace each other until they are
final. When the caller pauses, and again when an answer begins, Finalize makes all that was sent
before it final; the wait for that is bounded, and ends with what is known.

The wire is three kinds of message each way, so the bridge's own WebSocket does; the tests check
them against Deepgram's SDK.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from bridge.agent import Agent
from bridge.engines import vendor
from bridge.engines.base import Shared
from bridge.engines.hearing import Hearing
from bridge.engines.listening import POST_ROLL_MS, PRE_ROLL_MS, TAIL_MS, Glimpse
from bridge.errors import EngineError, EngineLost, EngineRefused
from bridge.settings import build

RATE = 16_000
CHUNK_MS = 60
FINAL_S = 1.0
"""So long the last words of a turn are waited for."""
KEEP_ALIVE_S = 4.0
"""Without audio Deepgram hangs up after ten seconds."""


@dataclass(frozen=True)
class DeepgramSettings:
    """`[stt] provider = "deepgram"`."""

    model: str = "nova-3"
    key_env: str = "DEEPGRAM_API_KEY"
    """The environment variable that holds the key."""
    url: str = "wss://api.deepgram.com"
    keyterms: tuple[str, ...] = ()
    """Names and words that callers may say."""


def provider(table: Mapping[str, Any], where: str, agent: Agent) -> DeepgramStt:
    """The part that `[stt]` asks for. Raises `ConfigError`."""
    return DeepgramStt(build(DeepgramSettings, table, where), agent.language)


class DeepgramStt:
    """A `StreamingStt`; calls share it, and have a connection each."""

    rate = RATE

    def __init__(self, settings: DeepgramSettings, language: str) -> None:
        """What to ask for."""
        self._settings, self._language = settings, language

    async def prepare(self, shared: Shared) -> DeepgramStt:
        """Raises `EngineMissing`: there is no key."""
        vendor.key(self._settings.key_env, "Deepgram")
        await vendor.load("picows", "websocket")
        return self

    async def listen(
        self,
        hearing: Hearing,
        tasks: asyncio.TaskGroup,
        told: Callable[[Glimpse], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> DeepgramListening:
        """Connect for a call. Raises `EngineError`."""
        own = self._settings
        query = [
            ("model", own.model),
            ("language", self._language),
            ("encoding", "linear16"),
            ("sample_rate", str(RATE)),
            ("interim_results", "true"),
            ("punctuate", "true"),
            ("endpointing", "false"),  # the bridge says when somebody pauses
            *(("keyterm", term) for term in own.keyterms),
        ]
        listening = DeepgramListening(hearing, tasks, told, clock)
        key = vendor.key(own.key_env, "Deepgram")
        await listening.connect(f"{own.url}/v1/listen?{urlencode(query)}", key, own.key_env)
        return listening


@dataclass(frozen=True, slots=True)
class Word:
    """One word, and when it was said, ms of the call."""

    text: str
    start_ms: float
    end_ms: float


class DeepgramListening:
    """What a caller is saying: like `bridge.engines.listening.Listening`."""

    def __init__(
        self,
        hearing: Hearing,
        tasks: asyncio.TaskGroup,
        told: Callable[[Glimpse], None],
        clock: Callable[[], float],
    ) -> None:
        """`told` is called with every new transcript; `tasks` are the call's."""
        self._hearing, self._tasks, self._told, self._clock = hearing, tasks, told, clock
        self._socket: Any = None
        self._origin_ms: int | None = None  # where the stream began
        self._sent_ms = 0
        self._alive_at = 0.0
        self._final: list[Word] = []
        self._interim: list[Word] = []
        self._known_ms = 0.0  # what the last result holds
        self._turn = self._start_ms = 0
        self._listens = False
        self._finalized: list[tuple[float, asyncio.Future[None]]] = []
        self._last: Glimpse | None = None
        self._lost: asyncio.Future[None] | None = None

    async def connect(self, url: str, key: str, key_env: str) -> None:
        """Raises `EngineError`."""
        from bridge.engines.socket import dial

        self._lost = asyncio.get_running_loop().create_future()
        headers = {"Authorization": f"Token {key}"}
        try:
            self._socket = await dial(url, self._message, headers=headers)
        except EngineError as error:
            if " 401" in str(error) or " 403" in str(error):
                raise EngineRefused(f"Deepgram refuses the key in {key_env}") from error
            raise EngineLost(f"no connection to Deepgram: {error}") from error
        self._socket.on_end = self._ended
        self._tasks.create_task(self._watch(self._lost), name="deepgram")

    # What the cascade calls -----------------------------------------------------------------------

    @property
    def last(self) -> Glimpse | None:
        """What is known of what he is saying."""
        return self._last

    def started(self, at_ms: int) -> None:
        """The caller began to speak."""
        self._turn, self._start_ms, self._last, self._listens = 0, at_ms, None, True
        keep = at_ms - 60_000
        self._final = [word for word in self._final if word.end_ms > keep]

    def pausing(self, turn: int, start_ms: int, end_ms: int) -> None:
        """He has just stopped; his words since `start_ms` are wanted."""
        self._turn, self._start_ms, self._listens = turn, start_ms, True
        self._finalize()

    def ended(self) -> None:
        """He has said what he had to say."""
        self._listens = False

    def grew(self) -> None:
        """More audio has come."""
        if self._hearing.end_ms - self._sent_ms >= CHUNK_MS:
            self._send()

    async def words(self, turn: int, start_ms: int, end_ms: int) -> Glimpse:
        """What was said between two times. Raises `EngineError`."""
        heard = self._clock()
        if self._known_ms < end_ms + TAIL_MS or self._interim:
            done = self._finalize()
            await asyncio.wait({done}, timeout=FINAL_S)
            self._finalized.clear()
        text = self._text(start_ms, end_ms + POST_ROLL_MS)
        until_ms = max(int(self._known_ms), end_ms)
        self._last = Glimpse(turn, start_ms, until_ms, text, heard, self._clock())
        return self._last

    async def close(self) -> None:
        """Stop at once."""
        self._listens = False
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(None)
        if self._socket is not None:
            socket, self._socket = self._socket, None
            socket.send(b'{"type":"CloseStream"}')
            await socket.close()

    # The wire -------------------------------------------------------------------------------------

    def _send(self) -> None:
        if self._socket is None:
            return
        end_ms = self._hearing.end_ms
        if self._origin_ms is None:
            self._origin_ms = self._sent_ms = max(0, end_ms - CHUNK_MS)
        pcm = self._hearing.cut(self._sent_ms, end_ms)
        self._sent_ms = end_ms
        if len(pcm):
            self._alive_at = self._clock()
            self._socket.send_binary(pcm.astype("<i2").tobytes())

    def _finalize(self) -> asyncio.Future[None]:
        self._send()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._finalized.append((self._sent_ms, done))
        if self._socket is not None:
            self._socket.send(b'{"type":"Finalize"}')
        return done

    def _message(self, data: bytes) -> None:
        message = json.loads(data)
        if message["type"] == "Error":
            raise EngineError(f"Deepgram says: {message.get('description', message)}")
        if message["type"] != "Results" or self._origin_ms is None:
            return
        origin = self._origin_ms
        found = [
            Word(
                word.get("punctuated_word") or word["word"],
                origin + word["start"] * 1000,
                origin + word["end"] * 1000,
            )
            for word in message["channel"]["alternatives"][0]["words"]
        ]
        self._known_ms = origin + (message["start"] + message["duration"]) * 1000
        if message.get("is_final"):
            self._final += found
            self._interim = []
        else:
            self._interim = found
        if message.get("from_finalize"):
            self._now_final()
        self._tell()

    def _now_final(self) -> None:
        """All that was sent before some Finalize; the first of them, where times don't tell.

        One behind which there was nothing to say may never be answered.
        """
        least = self._finalized[0][0] if self._finalized else 0
        reach = max(least, self._known_ms + 2 * CHUNK_MS)
        done = [entry for entry in self._finalized if entry[0] <= reach]
        self._finalized = [entry for entry in self._finalized if entry[0] > reach]
        for sent_ms, future in done:
            self._known_ms = max(self._known_ms, sent_ms)
            if not future.done():
                future.set_result(None)

    def _tell(self) -> None:
        until_ms = int(self._known_ms)
        if not self._listens or until_ms <= self._start_ms:
            return
        text = self._text(self._start_ms, until_ms + POST_ROLL_MS)
        now = self._clock()
        self._last = Glimpse(self._turn, self._start_ms, until_ms, text, now, now)
        self._told(self._last)

    def _text(self, start_ms: float, end_ms: float) -> str:
        """The words whose middle lies between two times."""
        start_ms -= PRE_ROLL_MS
        said = (*self._final, *self._interim)
        return " ".join(w.text for w in said if start_ms <= (w.start_ms + w.end_ms) / 2 <= end_ms)

    async def _watch(self, lost: asyncio.Future[None]) -> None:
        """Keep the connection while nobody sends; its end is the engine's."""
        while not lost.done():
            await asyncio.wait({lost}, timeout=KEEP_ALIVE_S)
            if self._socket is not None and self._clock() - self._alive_at >= KEEP_ALIVE_S:
                self._socket.send(b'{"type":"KeepAlive"}')
        lost.result()

    def _ended(self, fault: str) -> None:
        if self._lost is not None and not self._lost.done():
            reason = fault or "it closed the connection"
            self._lost.set_exception(EngineLost(f"lost Deepgram: {reason}"))
