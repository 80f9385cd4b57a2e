"""Stands in for Cartesia's text to speech, as a request's streamed answer."""

from aiohttp import web
from cartesia import AsyncCartesia
from cartesia.types.tts_generate_params import TTSGenerateParams

from tests.standins.deepgram import speak
from tests.standins.server import Server

VERSION = AsyncCartesia(api_key="none").default_headers["cartesia-version"]


class Cartesia(Server):
    """`url` is what an agent file names."""

    def __init__(self, *answers):
        super().__init__(*answers)
        self.routes = [web.post("/tts/bytes", self._bytes)]

    @property
    def url(self):
        return f"http://{self.host}"

    async def _bytes(self, request):
        body = await request.json()
        self.requests.append(body)
        self.check(TTSGenerateParams, body, "tts")
        if request.headers["Cartesia-Version"] != VERSION:
            self.faults.append(f"another Cartesia-Version than the SDK's, {VERSION}")
        if request.headers["Authorization"] != f"Bearer {self.key}":
            return web.json_response({"title": "Invalid API key"}, status=401)
        return await speak(self, request)
