"""A Wyoming server, speech to text and text to speech, on the library's own server.

An answer to a sentence is a list: int16 arrays, DROP, HANG, `Event`s; to an utterance a text, or
DROP, HANG, an `Event`.
"""

import asyncio
import json

import numpy as np
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.server import AsyncEventHandler, AsyncTcpServer
from wyoming.tts import Synthesize

from tests.standins.openai import DROP, HANG


class Wyoming:
    """`url` is what an agent file names; `heard` holds utterances, `asked` what was asked for."""

    rate = 22050

    def __init__(self, *answers):
        self.answers = list(answers)
        self.heard, self.asked, self.connections = [], [], 0
        self.gone = asyncio.Event()

    async def __aenter__(self):
        self._server = AsyncTcpServer("127.0.0.1", 0)
        await self._server.start(lambda reader, writer: _Handler(self, reader, writer))
        port = self._server._server.sockets[0].getsockname()[1]
        self.url = f"tcp://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *error):
        self._server._server.close()
        await self._server.stop()


class _Handler(AsyncEventHandler):
    def __init__(self, far, reader, writer):
        super().__init__(reader, writer)
        self._far, self._parts, self._open = far, [], False
        far.connections += 1

    async def handle_event(self, event):
        far = self._far
        if Transcribe.is_type(event.type):
            far.asked.append(Transcribe.from_event(event))
        elif AudioStart.is_type(event.type):
            start = AudioStart.from_event(event)
            assert (start.rate, start.width, start.channels) == (16000, 2, 1)
            self._open = True
        elif AudioChunk.is_type(event.type):
            assert self._open
            self._parts.append(np.frombuffer(AudioChunk.from_event(event).audio, "<i2"))
        elif AudioStop.is_type(event.type):
            far.heard.append(np.concatenate(self._parts))
            answer = far.answers.pop(0)
            return await self._do([Transcript(answer).event() if type(answer) is str else answer])
        elif Synthesize.is_type(event.type):
            far.asked.append(Synthesize.from_event(event))
            start = AudioStart(far.rate, 2, 1)
            await self.write_event(start.event())
            return await self._do([*far.answers.pop(0), AudioStop().event()])
        else:
            raise AssertionError(f"an event that nobody knows: {json.dumps(event.to_dict())}")
        return True

    async def _do(self, steps):
        for step in steps:
            if step is DROP:
                self.writer.transport.abort()
                return False
            if step is HANG:
                await self.reader.read()  # until the client is gone
                self._far.gone.set()
                return False
            if isinstance(step, bytes):
                self.writer.write(step)
            elif isinstance(step, np.ndarray):
                chunk = AudioChunk(self._far.rate, 2, 1, step.astype("<i2").tobytes())
                await self.write_event(chunk.event())
            else:
                await self.write_event(step)
        return True
