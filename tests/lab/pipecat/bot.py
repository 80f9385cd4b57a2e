"""A bot that is none of ours: Pipecat's own Twilio serializer and FastAPI transport.

A program of an environment of its own (tests/lab/setup.sh makes it):

    .lab-pipecat/bin/python tests/lab/pipecat/bot.py talk FOLDER     a bot as Pipecat's examples are
    .lab-pipecat/bin/python tests/lab/pipecat/bot.py echo FOLDER     says what it hears

`talk` greets with FOLDER/greeting.wav, answers each turn of the caller with FOLDER/answer.wav, sets
a mark behind both, and is interrupted by Pipecat's own voice detection, which makes its serializer
send `clear`. It begins a call as Pipecat's own runner does (`parse_telephony_websocket`) and checks
its signature with Twilio's own library. What happens is written to FOLDER/events, one JSON object a
line. Prints the port that it listens on.
"""

import asyncio
import json
import os
import socket
import sys
import time
import wave
from pathlib import Path

import uvicorn
from fastapi import FastAPI, WebSocket
from loguru import logger
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.frames.frames import (
    InputAudioRawFrame,
    InputDTMFFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
    OutputTransportMessageFrame,
    StartFrame,
    UserStoppedSpeakingFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.audio.vad_processor import VADProcessor
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.runner.utils import parse_telephony_websocket
from pipecat.serializers.twilio import TwilioFrameSerializer
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams, FastAPIWebsocketTransport
from pipecat.turns.user_stop import SpeechTimeoutUserTurnStopStrategy
from pipecat.turns.user_turn_processor import UserTurnProcessor
from pipecat.turns.user_turn_strategies import UserTurnStrategies
from pipecat.workers.runner import WorkerRunner
from twilio.request_validator import RequestValidator

RATE = 8000
MODE, FOLDER = sys.argv[1], Path(sys.argv[2])
EVENTS = (FOLDER / "events").open("a", buffering=1)
app = FastAPI()


def note(event, **more):
    """One line of what happens."""
    print(json.dumps({"event": event, "at": time.time(), **more}, default=vars), file=EVENTS)


class Noting(TwilioFrameSerializer):
    """Pipecat's own, which ignores marks that come back: they are noted first."""

    async def deserialize(self, data):
        message = json.loads(data)
        if message["event"] not in ("media", "dtmf"):
            note(f"got {message['event']}", message=message)
        return await super().deserialize(data)

    async def serialize(self, frame):
        if isinstance(frame, InterruptionFrame):
            note("clear")
        return await super().serialize(frame)


class Talker(FrameProcessor):
    """What a bot's brain and voice would be."""

    def __init__(self, stream):
        super().__init__()
        self._stream = stream

    async def process_frame(self, frame, direction):
        await super().process_frame(frame, direction)
        await self.push_frame(frame, direction)
        if isinstance(frame, StartFrame):
            await self._say("greeting")
        elif isinstance(frame, UserStoppedSpeakingFrame):
            await self._say("answer")
        elif isinstance(frame, InputDTMFFrame):
            note("key", digit=frame.button.value)

    async def _say(self, name):
        note(f"say {name}")
        with wave.open(str(FOLDER / f"{name}.wav"), "rb") as file:
            pcm = file.readframes(file.getnframes())
        for at in range(0, len(pcm), 3200):  # in pieces, as a TTS gives it
            piece = pcm[at : at + 3200]
            await self.push_frame(OutputAudioRawFrame(piece, RATE, 1))
        mark = {"event": "mark", "streamSid": self._stream, "mark": {"name": name}}
        await self.push_frame(OutputTransportMessageFrame(message=mark))


class Echo(FrameProcessor):
    """Says what it hears, unless it is silence."""

    async def process_frame(self, frame, direction):
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            if any(frame.audio):
                await self.push_frame(
                    OutputAudioRawFrame(frame.audio, frame.sample_rate, frame.num_channels)
                )
        else:
            await self.push_frame(frame, direction)


@app.websocket("/ws")
async def call(websocket: WebSocket):
    """One call."""
    await websocket.accept()
    signature = websocket.headers.get("x-twilio-signature", "")
    _, about = await parse_telephony_websocket(websocket)
    validator = RequestValidator(os.environ.get("TWILIO_AUTH_TOKEN", ""))
    note("call", about=about, signed=validator.validate(str(websocket.url), {}, signature))
    serializer = (Noting if MODE == "talk" else TwilioFrameSerializer)(
        stream_sid=about["stream_id"],
        call_sid=about["call_id"],
        params=TwilioFrameSerializer.InputParams(auto_hang_up=False),
    )
    transport = FastAPIWebsocketTransport(
        websocket=websocket,
        params=FastAPIWebsocketParams(
            audio_in_enabled=True, audio_out_enabled=True, serializer=serializer
        ),
    )
    if MODE == "talk":
        stop = SpeechTimeoutUserTurnStopStrategy(user_speech_timeout=0.3, wait_for_transcript=False)
        middle = [
            VADProcessor(vad_analyzer=SileroVADAnalyzer()),
            UserTurnProcessor(user_turn_strategies=UserTurnStrategies(stop=[stop])),
            Talker(about["stream_id"]),
        ]
    else:
        middle = [Echo()]
    worker = PipelineWorker(
        Pipeline([transport.input(), *middle, transport.output()]),
        params=PipelineParams(audio_in_sample_rate=RATE, audio_out_sample_rate=RATE),
        cancel_on_idle_timeout=False,
        enable_rtvi=False,
        enable_turn_tracking=False,
    )

    @transport.event_handler("on_client_disconnected")
    async def gone(transport, client):
        note("gone")
        await worker.cancel()

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    await runner.run()


async def main():
    """Serve until killed."""
    logger.remove()
    logger.add(sys.stderr, level="WARNING")
    listening = socket.create_server(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    config = uvicorn.Config(app, log_level="warning", lifespan="off")
    await uvicorn.Server(config).serve(sockets=[listening])


if __name__ == "__main__":
    asyncio.run(main())
