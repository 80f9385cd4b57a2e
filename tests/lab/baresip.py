"""A real SIP phone that we did not write: baresip, as a process of its own (GPL), driven by code.

It has no sound card. What it says is a file that its audio source plays; `speak` switches the
source to another file. A source that ends would hang the call up, so every file is followed by
silence for longer than any call. Control goes over its own TCP interface: JSON in netstrings.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import tempfile
import wave
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from tests.lab.capture import Pcm
from tests.lab.root import free_port, free_range, program, system
from tests.lab.speech import resample

SILENCE_S = 180.0  # appended to whatever it says
DIGIT_S = 0.12  # how long a key is held
BETWEEN_DIGITS_S = 0.15
ANSWER_S = 15.0
_SIP = (socket.SOCK_DGRAM, socket.SOCK_STREAM)  # a port for UDP and TCP, and the next for TLS
START_S = 10.0


class PhoneError(Exception):
    """The phone did not start, or its call did not come about."""


@dataclass(frozen=True)
class Codec:
    """name: as in an account's `audio_codecs`; rate: samples a second that its source must have."""

    name: str
    module: str
    rate: int


CODECS = {
    "pcmu": Codec("PCMU/8000/1", "g711", 8000),
    "pcma": Codec("PCMA/8000/1", "g711", 8000),
    "g722": Codec("G722/16000/1", "g722", 16000),
    "opus": Codec("opus/48000/2", "opus", 48000),
}


@dataclass
class Baresip:
    """`async with Baresip(user, password, port) as phone:` gives a phone on the lab's Asterisk.

    port: Asterisk's SIP port on 127.0.0.1 for the `transport` ("udp", "tcp" or "tls")
    codec: a key of `CODECS`, the only one that it offers
    srtp: offer SRTP only (SDES keys, RFC 4568)
    ca: the certificate authority that Asterisk's TLS certificate must come from
    register: register with Asterisk, so that it can be called
    """

    user: str
    password: str
    port: int
    transport: str = "udp"
    codec: str = "pcmu"
    srtp: bool = False
    ca: Path | None = None
    register: bool = False
    events: list[dict[str, Any]] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        self.rtp_ports = range(first := free_range(8), first + 8)
        self.closed = asyncio.Event()  # the call ended, whoever hung up
        self._established, self._ringing = asyncio.Event(), asyncio.Event()
        self._answers: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._clips = 0
        self._directory = Path(tempfile.mkdtemp(prefix="ari-bridge-phone-"))
        try:
            await self._start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    # ---- what a person does with a phone

    async def dial(self, extension: str) -> None:
        """Call an extension and return when it has answered."""
        self._established.clear()
        self.closed.clear()
        await self._command("dial", f"sip:{extension}@127.0.0.1:{self.port}")
        waits = [asyncio.create_task(e.wait()) for e in (self._established, self.closed)]
        try:
            await asyncio.wait(waits, timeout=ANSWER_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if not self._established.is_set():
            reason = self.events[-1].get("param", "no answer") if self.events else "no answer"
            raise PhoneError(f"the call to {extension} was not answered: {reason}")

    async def answer(self) -> None:
        """Wait until somebody calls `sip:USER@127.0.0.1:SIP_PORT`, accept, return when it is up."""
        async with asyncio.timeout(ANSWER_S):
            await self._ringing.wait()
            await self._command("accept")
            await self._established.wait()

    async def speak(self, pcm: Pcm, rate: int) -> float:
        """Begin to say `pcm`, then silence; return its length in seconds, at once."""
        self._clips += 1
        name = self._write(f"{self._clips}.wav", pcm, rate)
        await self._command("ausrc", f"aufile,{name}")
        return len(pcm) / rate

    async def hush(self) -> None:
        """Stop speaking in mid-word."""
        await self._command("ausrc", "aufile,silence.wav")

    async def dtmf(self, digits: str) -> None:
        """Press keys one after the other (RFC 4733 telephone-events)."""
        for digit in digits:
            await self._command("sndcode", digit)
            await asyncio.sleep(DIGIT_S + BETWEEN_DIGITS_S)

    async def hangup(self) -> None:
        """End the call and return when it is over."""
        if not self.closed.is_set():
            await self._command("hangup")
            await asyncio.wait_for(self.closed.wait(), 20)

    async def hold(self) -> None:
        """Hold the call."""
        await self._command("hold")

    async def resume(self) -> None:
        """Take a held call back."""
        # baresip 1.0 first holds another call, and says EINVAL when there is none; it does resume.
        with contextlib.suppress(PhoneError):
            await self._command("resume")

    async def registered(self) -> None:
        """Return when Asterisk has accepted the registration."""
        async with asyncio.timeout(START_S):
            # Asked, not waited for: it may have registered before we listened for its events.
            while "OK" not in await self._command("reginfo"):
                await asyncio.sleep(0.05)

    # ---- the process

    async def _start(self) -> None:
        codec = CODECS[self.codec]
        (self._directory / "config").write_text(self._config(codec))
        (self._directory / "accounts").write_text(self._account(codec))
        (self._directory / "contacts").write_text("")
        self._write("silence.wav", np.zeros(0, np.int16), 8000)
        self._log = (self._directory / "log").open("wb")
        self._process = await asyncio.create_subprocess_exec(
            str(program("baresip")),
            *("-4", "-f", str(self._directory)),
            cwd=self._directory,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,  # the terminal's Ctrl-C is for us, who then stop it in order
        )
        async with asyncio.timeout(START_S):
            while True:
                try:
                    reader, self._writer = await asyncio.open_connection(
                        "127.0.0.1", self._control_port
                    )
                    break
                except OSError:
                    if self._process.returncode is not None:
                        raise PhoneError(f"baresip did not start: {self.log()[-500:]}") from None
                    await asyncio.sleep(0.05)
        self._reading = asyncio.create_task(self._read(reader))

    async def close(self) -> None:
        """Hang up, end the process and remove its files."""
        process = getattr(self, "_process", None)
        if process and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()  # it says BYE and goes
            try:
                await asyncio.wait_for(process.wait(), 5)
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):  # it has gone at last
                    process.kill()
                await process.wait()
        if reading := getattr(self, "_reading", None):
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            self._writer.close()
        if log := getattr(self, "_log", None):
            log.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def log(self) -> str:
        """What it has said so far."""
        return (self._directory / "log").read_text(errors="replace")

    def _config(self, codec: Codec) -> str:
        self._control_port = free_port()
        self.sip_port = free_range(2, *_SIP)
        modules = ["stdio", codec.module, "aufile", "aubridge", "srtp"]
        lines = [
            f"sip_listen 127.0.0.1:{self.sip_port}",
            "sip_verify_server yes",
            f"sip_cafile {self.ca}" if self.ca else "",
            "call_max_calls 1",
            "audio_player aubridge,nil",
            "audio_source aufile,silence.wav",
            "audio_alert aubridge,nil",
            "audio_buffer 20-160",
            "net_interface 127.0.0.1",
            f"rtp_ports {self.rtp_ports.start}-{self.rtp_ports.stop - 1}",
            f"module_path {system('usr/lib/baresip/modules')}",
            *(f"module {name}.so" for name in modules),
            "module_tmp account.so",
            "module_app menu.so",
            "module_app ctrl_tcp.so",
            f"ctrl_tcp_listen 127.0.0.1:{self._control_port}",
            "ringback_disabled yes",
        ]
        return "\n".join(lines) + "\n"

    def _account(self, codec: Codec) -> str:
        parameters = [
            f"auth_pass={self.password}",
            f"audio_codecs={codec.name}",
            f"regint={60 if self.register else 0}",
            "dtmfmode=rtpevent",
            *(["mediaenc=srtp-mand"] if self.srtp else []),
        ]
        uri = f"sip:{self.user}@127.0.0.1:{self.port};transport={self.transport}"
        return f"<{uri}>;{';'.join(parameters)}\n"

    def _write(self, name: str, pcm: Pcm, rate: int) -> str:
        """A file for its audio source, at the rate of the codec (it would not resample)."""
        codec = CODECS[self.codec]
        channels = int(codec.name.rsplit("/", 1)[1])
        sound = resample(pcm, rate, codec.rate)
        with wave.open(str(self._directory / name), "wb") as file:
            file.setnchannels(channels)
            file.setsampwidth(2)
            file.setframerate(codec.rate)
            file.writeframes(sound.repeat(channels).astype("<i2").tobytes())
            file.writeframes(bytes(int(SILENCE_S * codec.rate) * 2 * channels))
        return name

    # ---- its control interface

    async def _command(self, command: str, params: str | None = None) -> str:
        token = str(len(self._answers))
        message = {"command": command, "token": token} | ({"params": params} if params else {})
        answer = self._answers[token] = asyncio.get_running_loop().create_future()
        text = json.dumps(message).encode()
        self._writer.write(b"%d:%s," % (len(text), text))
        reply = await asyncio.wait_for(answer, 5)
        if not reply["ok"]:
            raise PhoneError(f"baresip refused {command}: {reply['data']}")
        return str(reply["data"])

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                length = int((await reader.readuntil(b":"))[:-1])
                message = json.loads((await reader.readexactly(length + 1))[:-1])
                if message.get("response"):
                    self._answers[message["token"]].set_result(message)
                elif message.get("event"):
                    self._event(message)
        self.closed.set()

    def _event(self, event: dict[str, Any]) -> None:
        self.events.append(event)
        match event.get("type"):
            case "CALL_INCOMING":
                self._ringing.set()
            case "CALL_ESTABLISHED":
                self._established.set()
            case "CALL_CLOSED":
                self.closed.set()
