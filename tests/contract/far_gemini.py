"""Google's Gemini Live API, by its SDK's own types: every message is checked by them."""

import base64
import json
import re
from dataclasses import replace

import numpy as np
from google.genai import types
from pydantic import ValidationError

from bridge.engines import wire
from tests.contract import certificate
from tests.contract.far import DEEP, Far, voice
from tests.contract.server import Server

PATH = "ws/google.ai.generativelanguage.v1.GenerativeService.BidiGenerateContent"
DOWN = 24000


def camel(value):
    """Keys as the SDK's types name them: some are sent in one way, some in the other."""
    if isinstance(value, dict):
        return {
            re.sub(r"_([a-z])", lambda m: m[1].upper(), key): item
            if key in ("args", "response", "parametersJsonSchema", "parameters_json_schema")
            else camel(item)
            for key, item in value.items()
        }
    return [camel(item) for item in value] if isinstance(value, list) else value


class Gemini(Far):
    """One session, over as many connections as it takes."""

    engine, rate = "gemini-live", 16000
    does = frozenset({"text", "tools", "keys", "history", "key", "owes", "unbounded"})
    key_env = "GEMINI_API_KEY"

    async def __aenter__(self):
        self.server = Server(self, self.serve, self.allow)
        self.where = await self.server.start(certificate.context())
        self.handles = {}
        self.setups = []
        self.told = []
        self.key_is_right = True
        return self

    async def __aexit__(self, *error):
        await super().__aexit__(*error)
        await self.server.stop()

    def options(self):
        return {"url": f"https://{self.where}"}

    def environment(self):
        return {"GEMINI_API_KEY": "right-key", "SSL_CERT_FILE": certificate.path()}

    def ping(self, monkeypatch):
        monkeypatch.setattr(wire, "PING_S", 0.6)
        monkeypatch.setattr(wire, "PONG_S", 0.6)

    async def refuse(self):
        await self.server.refuse()

    async def drop(self):
        await self.server.drop()

    async def freeze(self):
        await self.server.freeze()

    def allow(self, request):
        self.key_is_right = request.headers.get("x-goog-api-key") == "right-key"
        return None if request.path.lstrip("/") == PATH else 404

    # One connection -------------------------------------------------------------------------------

    async def serve(self, request, socket):
        if not self.key_is_right:
            await socket.close(
                code=1007, message=b"API key not valid. Please pass a valid API key."
            )
            return
        self.setup, self.started, self.activity, self.speaking = None, False, False, False
        self.pending = {}
        async for raw in self.server.messages(socket):
            if self.server.socket is not socket:
                continue  # a newer connection has taken over
            body = camel(json.loads(raw))
            # The SDK sends that one, but its own type of a set-up doesn't know it.
            detection = body.get("setup", {}).pop("realtimeInputConfig", {})
            try:
                message = types.LiveClientMessage.model_validate(body)
                self.detection = types.RealtimeInputConfig.model_validate(detection)
            except ValidationError as error:
                self.fault(str(error))
                continue
            if self.setup is None:
                await self.begin_session(socket, message.setup)
            elif message.realtime_input is not None:
                await self.realtime(message.realtime_input)
            elif message.client_content is not None:
                await self.content(message.client_content)
            elif message.tool_response is not None:
                await self.response(message.tool_response)
            else:
                self.fault(f"nothing known in {raw:.200}")

    async def begin_session(self, socket, setup):
        self.setup = setup
        self.setups.append(setup)
        if setup.session_resumption is None:
            self.fault("no session resumption")
        handle = setup.session_resumption.handle
        if handle and handle not in self.handles:
            await socket.close(code=1008, message=b"BidiGenerateContent session not found")
            return
        self.by_itself = not self.detection.automatic_activity_detection.disabled
        await self.send(setup_complete=types.LiveServerSetupComplete(session_id="s1"))
        self.primed = not (
            setup.history_config and setup.history_config.initial_history_in_client_content
        )
        if handle:
            self.started = True
            self.begun(self.handles[handle])
        elif self.primed and self.greeting:
            # A model that is asked to greet; ours isn't asked by this suite.
            self.begin(None)

    def begin(self, history):
        self.started = True
        self.begun(history)

    async def content(self, content):
        turns = content.turns or []
        if not self.primed:  # the history
            if not content.turn_complete:
                self.fault("an initial history that doesn't end")
            self.primed = True
            sides = {"user": "caller", "model": "agent"}
            self.begin([(sides[turn.role], turn.parts[0].text) for turn in turns])
            return
        if not self.started:
            self.begin(None)
        await self.interrupt()
        for turn in turns:
            if turn.role != "user":
                self.fault(f"told in the name of {turn.role}")
            text = turn.parts[0].text
            self.told.append(text)
            match = re.search(r"pressed the keys ([0-9*#]+)", text)
            self.keys += match[1] if match else ""
        if content.turn_complete:
            self.turn_over()

    # The caller -----------------------------------------------------------------------------------

    async def realtime(self, sent):
        if not self.primed:
            self.fault("speaks before the history is complete")
        if not self.started:
            self.begin(None)
        if sent.activity_start is not None:
            if self.by_itself or self.activity:
                self.fault("activityStart")
            self.activity = True
            await self.interrupt()
        elif sent.activity_end is not None:
            if self.by_itself or not self.activity:
                self.fault("activityEnd")
            self.activity = False
            await self.end_turn()
        elif sent.audio is not None:
            await self.listen(sent.audio)
        else:
            self.fault("an empty realtimeInput")

    async def listen(self, audio):
        if audio.mime_type != "audio/pcm;rate=16000":
            self.fault(audio.mime_type)
        pcm = np.frombuffer(audio.data, "<i2")
        self.heard(pcm)
        if not (self.by_itself or self.activity):
            self.fault("audio outside of an activity")
        if self.by_itself:
            match self.ends_turns(pcm):
                case "began":
                    await self.interrupt()
                case "ended":
                    await self.end_turn()

    async def end_turn(self):
        for word in re.findall(r"\S+\s*", self.words):
            await self.say_of(input_transcription=types.Transcription(text=word))
        self.turn_over()

    async def interrupt(self):
        """What is being said is over; the calls that it made are off."""
        if self.speaking:
            self.cut()
            self.speaking = False
            await self.say_of(interrupted=True)
            await self.say_of(turn_complete=True)
        if self.pending:
            ids = list(self.pending)
            self.pending.clear()
            await self.send(tool_call_cancellation=types.LiveServerToolCallCancellation(ids=ids))

    # The model ------------------------------------------------------------------------------------

    async def _perform(self, steps):
        self.speaking = True
        await super()._perform(steps)
        if not self.pending:
            await self.say_of(generation_complete=True)
            self.speaking = False
            await self.say_of(turn_complete=True)
            await self.hand_out()

    async def hand_out(self):
        """A handle by which the session as it is now can be gone on with."""
        handle = f"handle-{len(self.handles) + 1}"
        self.handles[handle] = [("agent", "Hello there."), ("caller", "Hi.")]
        update = types.LiveServerSessionResumptionUpdate(new_handle=handle, resumable=True)
        await self.send(session_resumption_update=update)

    async def say(self, step):
        for n, word in enumerate(step.text.split(" ")):
            text = (" " if n else "") + word
            await self.say_of(output_transcription=types.Transcription(text=text))
        data = voice(step.ms, DOWN, step.seed).astype("<i2").tobytes()
        # Sizes are meant for audio of `rate`, of which this is half as much again; and thousands of
        # messages would be checked for longer than they last.
        more = [-(-size * DOWN // self.rate) if size > 99 else 69 + size for size in step.sizes]
        step = replace(step, sizes=tuple(more))
        for n, piece in enumerate(step.cut(data)):
            if n and step.every_ms:
                await self.wait(step.every_ms)
            blob = types.Blob(data=piece, mime_type=f"audio/pcm;rate={DOWN}")
            part = types.Part(inline_data=blob)
            await self.say_of(model_turn=types.Content(role="model", parts=[part]))

    async def call_tool(self, step):
        name = f"call-{len(self.results) + len(self.pending) + 1}"
        self.pending[name] = step.name
        call = types.FunctionCall(id=name, name=step.name, args=step.arguments)
        await self.send(tool_call=types.LiveServerToolCall(function_calls=[call]))

    async def response(self, response):
        for one in response.function_responses:
            if self.pending.pop(one.id, None) != one.name:
                self.fault(f"a response to {one.id}, {one.name}")
                continue
            ok = "output" in one.response
            self.results.append((one.name, ok, one.response["output" if ok else "error"]))
        if not self.pending:
            self.turn_over()

    async def garbage(self):
        for text in (DEEP, "not JSON", "[]", "{}", "null", '"x"', '{"serverContent":7}', "7"):
            await self.server.send(text)
        await self.server.send('{"serverContent":{"modelTurn":{"parts":[{"inlineData":"*"}]}}}')
        await self.server.send('{"toolCall":{"functionCalls":[{}]}}')
        await self.server.send('{"toolCallCancellation":{}}')
        await self.server.send('{"sessionResumptionUpdate":{"resumable":true}}')
        await self.server.send('{"unheardOf":{"x":1}}')
        await self.server.send(b"\0\xff\xfe")

    # To the bridge --------------------------------------------------------------------------------

    async def send(self, **fields):
        """A message, made and checked by the SDK's type."""
        message = types.LiveServerMessage(**fields)
        body = message.model_dump(mode="json", by_alias=True, exclude_none=True)
        for part in body.get("serverContent", {}).get("modelTurn", {}).get("parts", ()):
            # The SDK writes base64 for URLs; the API sends the ordinary one.
            blob = part["inlineData"]
            blob["data"] = base64.b64encode(base64.urlsafe_b64decode(blob["data"])).decode()
        await self.server.send(json.dumps(body).encode())  # it sends binary messages

    async def say_of(self, **fields):
        """Server content."""
        await self.send(server_content=types.LiveServerContent(**fields))
