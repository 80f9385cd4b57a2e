"""Stands in for Deepgram: speech to text over a WebSocket, text to speech by a request.

Of the audio it makes words by itself: every 200 ms of sound is the next of `words` (and silence is
none), with its times, so that a test can tell whether the times are right. A sentence's answer is a
list of int16 arrays, DROP, HANG, or a status.
"""

import asyncio
import json

import numpy as np
from aiohttp import WSMsgType, web
from deepgram.listen.v1.types import (
    ListenV1CloseStream,
    ListenV1Finalize,
    ListenV1KeepAlive,
    ListenV1Results,
)
from pydantic import TypeAdapter

from tests.standins.openai import DROP, HANG
from tests.standins.server import Server

CONTROL = TypeAdapter(ListenV1Finalize | ListenV1KeepAlive | ListenV1CloseStream)
RATE, WORD = 16000, 3200


class Deepgram(Server):
    """`wss` and `url` are what an agent file names."""

    def __init__(self, *answers, words=()):
        super().__init__(*answers)
        self.words = list(words)
        self.said = []
        self.control = []
        self.finals = True
        """Whether it answers Finalize."""
        self.routes = [web.get("/v1/listen", self._listen), web.post("/v1/speak", self._speak)]
        self.socket = None

    @property
    def wss(self):
        return f"ws://{self.host}"

    @property
    def url(self):
        return f"http://{self.host}"

    def drop(self):
        """The connection breaks."""
        self._request.transport.abort()

    async def _listen(self, request):
        if request.headers["Authorization"] != f"Token {self.key}":
            return web.json_response({"err_msg": "Invalid credentials."}, status=401)
        self.requests.append(list(request.query.items()))
        asked = request.query
        if (asked["encoding"], asked["sample_rate"]) != ("linear16", str(RATE)):
            self.faults.append(f"audio of another kind: {asked}")
        self._request = request
        self.socket = socket = web.WebSocketResponse()
        await socket.prepare(request)
        audio, given = np.zeros(0, np.int16), 0
        async for message in socket:
            if message.type is WSMsgType.BINARY:
                audio = np.concatenate((audio, np.frombuffer(message.data, "<i2")))
                self.said = audio
                if len(audio) - given >= RATE // 2:
                    await self._result(audio, given, final=False)
            elif message.type is WSMsgType.TEXT:
                control = CONTROL.validate_python(json.loads(message.data))
                self.control.append(control.type)
                if control.type == "Finalize" and self.finals:
                    await self._result(audio, given, final=True)
                    given = len(audio)
        self.gone.set()
        return socket

    async def _result(self, audio, given, final):
        """The words of what came since the last final result."""
        loud = np.abs(audio.astype(np.int32)) > 500
        before = int(loud[:given].sum()) // WORD
        places = np.flatnonzero(loud)[before * WORD : (int(loud.sum()) // WORD) * WORD : WORD]
        words = [
            {
                "word": word.lower().strip(".?!,"),
                "punctuated_word": word,
                "start": place / RATE,
                "end": (place + WORD) / RATE,
                "confidence": 1.0,
            }
            for word, place in zip(self.words[before:], places, strict=False)
        ]
        text = " ".join(word["punctuated_word"] for word in words)
        alternative = {"transcript": text, "confidence": 1.0, "words": words}
        metadata = {
            "request_id": "r",
            "model_uuid": "m",
            "model_info": {"name": "n", "version": "v", "arch": "a"},
        }
        message = {
            "type": "Results",
            "channel_index": [0, 1],
            "duration": (len(audio) - given) / RATE,
            "start": given / RATE,
            "is_final": final,
            "speech_final": False,
            "from_finalize": final,
            "channel": {"alternatives": [alternative]},
            "metadata": metadata,
        }
        ListenV1Results.model_validate(message)
        await self.socket.send_json(message)

    async def _speak(self, request):
        body = await request.json()
        self.requests.append({**request.query, **body})
        if request.headers["Authorization"] != f"Token {self.key}":
            return web.json_response(
                {"err_code": "INVALID_AUTH", "err_msg": "Invalid credentials."}, status=401
            )
        if list(body) != ["text"] or request.query["sample_rate"] not in ("8000", "16000"):
            self.faults.append(f"speak: {body} {request.query}")
        return await speak(self, request)


async def speak(server, request):
    """Perform the next answer: audio."""
    answer = server.answers.popleft()
    if isinstance(answer, int):
        return web.json_response({"err_msg": "That is not to be had."}, status=answer)
    response = web.StreamResponse(headers={"Content-Type": "audio/l16"})
    await response.prepare(request)
    try:
        for step in answer:
            if step is HANG:
                await server.frozen.wait()
            elif step is DROP:
                request.transport.abort()
                return response
            else:
                await response.write(step.tobytes())
    except (ConnectionResetError, asyncio.CancelledError):
        server.gone.set()
        raise
    return response
