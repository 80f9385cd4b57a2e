"""A parrot: says again what the caller said, lets him interrupt, and hangs up on #.

It runs on ari-bridge (`engine = "websocket"`) and on Asterisk's own chan_websocket with `f(json)`.
"""

import asyncio
import json

import numpy as np
from websockets.asyncio.server import serve


async def call(line):
    said, silence = [], 0
    async for message in line:
        if isinstance(message, str):  # an event
            event = json.loads(message)
            match event["event"]:
                case "MEDIA_START":
                    print("call from", event["channel_variables"], "in", event["format"])
                case "SPEECH_STARTED":  # he interrupts: what isn't played yet never will be
                    await line.send(json.dumps({"command": "FLUSH_MEDIA"}))
                case "DTMF_END" if event["digit"] == "#":
                    await line.send(json.dumps({"command": "HANGUP"}))
            continue
        loud = np.abs(np.frombuffer(message, "<i2").astype(int)).mean() > 300
        if loud or said:  # 20 ms of audio
            said.append(message)
            silence = 0 if loud else silence + 20
        if silence >= 600:
            for frame in said[: -silence // 20]:  # as fast as it likes: the bridge paces
                await line.send(frame)
            said, silence = [], 0


async def main():
    async with serve(call, "127.0.0.1", 8765) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
