"""Asterisk's REST interface: aioari for its operations, our own transport below, our errors out.

aioari 0.10.2 builds its operations from the server's own API description, and that is what we take
from it. Four things of it we do ourselves:

- The transport (`_Transport` instead of its `AsynchronousHttpClient`): its own puts the password
  into every URL, from where it reaches logs and tracebacks; it follows the `basePath` that Asterisk
  guesses from the Host header, wrong behind a proxy or TLS; and it has no time limits.
- The event loop (`Client.run`): it awaits each listener inline, so that one slow call stops all,
  and returns silently when the WebSocket drops. `events` gives the WebSocket itself.
- Its object layer (`Channel`, `Bridge`): it logs a line at INFO for every variable read.
- Its errors: `aiohttp.web_exceptions`, a server's classes, some of which it can't even build.

Every method raises `PbxGone`, `PbxRefused` or `PbxUnreachable`, with one line for the operator.
"""

from __future__ import annotations

import asyncio
import base64
import json
import warnings
from typing import Any, Final

import aiohttp

from bridge.errors import PbxError, PbxGone, PbxRefused, PbxUnreachable
from bridge.pbx import certificate
from bridge.pbx.settings import AsteriskSettings

with warnings.catch_warnings():
    # Its r-less regular expressions are a SyntaxWarning (before 3.12 a DeprecationWarning).
    warnings.simplefilter("ignore")
    import aioari
    from aioswagger11.processors import SwaggerError

_NEEDED: Final = (
    "applications.filter",
    "applications.get",
    "applications.subscribe",
    "asterisk.getInfo",
    "asterisk.getModule",
    "bridges.addChannel",
    "bridges.createWithId",
    "bridges.destroy",
    "bridges.list",
    "bridges.removeChannel",
    "channels.answer",
    "channels.continueInDialplan",
    "channels.create",
    "channels.dial",
    "channels.externalMedia",
    "channels.get",
    "channels.getChannelVar",
    "channels.hangup",
    "channels.list",
    "channels.move",
    "channels.originateWithId",
    "channels.ring",
    "channels.ringStop",
    "channels.rtpstatistics",
    "channels.sendDTMF",
    "channels.setChannelVar",
    "channels.snoopChannelWithId",
    "channels.startMoh",
    "channels.stopMoh",
    "events.eventWebsocket",
    "events.userEvent",
)
# Asterisk's HTTP listens with a backlog of 10 (tcptls.c): of more connections opened at once,
# such as for a takeover, some get in only after TCP's first retry, a second later. One of ours is
# the WebSocket.
_CONNECTIONS: Final = 8
# Shorter than http.conf's session_keep_alive (15 s), so that we don't write into a closing one.
_KEEP_ALIVE_S: Final = 8.0


class Dropped(PbxUnreachable):
    """The connection ended without an answer; it may have been done or not."""


class Ari:
    """One Asterisk's ARI."""

    def __init__(self, settings: AsteriskSettings) -> None:
        self._settings = settings
        self._transport: _Transport | None = None
        self._client: Any = None
        self.version = ""
        """Of Asterisk, such as `22.10.1`, once open."""
        self.listened = asyncio.Event()
        """Unset while our application's events don't flow: Asterisk ends what is put into it."""
        self.listened.set()

    @property
    def is_open(self) -> bool:
        """Whether the server was reached and its API description read."""
        return self._client is not None

    async def open(self) -> None:
        """Reach Asterisk, check rights and version, read its API description."""
        await self.close()
        transport = _Transport(self._settings)
        try:
            info = await self._probe(transport)
            client = await self._describe(transport)
        except BaseException:
            await transport.close()
            raise
        self._transport, self._client = transport, client
        self.version = info["system"]["version"].partition("+")[0]
        missing = [name for name in _NEEDED if self._find(name) is None]
        if missing:
            await self.close()
            raise PbxRefused(
                f"Asterisk {self.version} is too old: its ARI has no {', '.join(missing)}; "
                "use Asterisk 20 or newer"
            )
        # A read-only user is told so by any write; this one can do nothing.
        try:
            await self.call("channels.hangup", channelId="ari-bridge-may-I-write", ok=(404,))
        except PbxError:
            await self.close()
            raise

    async def _probe(self, transport: _Transport) -> Any:
        url, user = self._settings.url, self._settings.username
        status, server, text = await transport.get("asterisk/info?only=system")
        if status == 401:
            raise PbxRefused(
                f"Asterisk at {url} refuses user '{user}': make username and password the same "
                f"as section [{user}] in its ari.conf"
            )
        asterisk = "Asterisk" in server
        if status == 404 and asterisk:
            raise PbxRefused(
                f"Asterisk at {url} has no ARI: set enabled=yes in its ari.conf, load res_ari.so "
                "and res_ari_asterisk.so (or put http.conf's prefix into the url)"
            )
        try:
            info = json.loads(text)
            if status == 200 and isinstance(info["system"]["version"], str):
                return info
        except (ValueError, KeyError, TypeError):
            pass
        if asterisk:
            raise PbxRefused(f"Asterisk at {url} answers ARI with {status}: see its log")
        raise PbxRefused(
            f"what listens at {url} is not an Asterisk (it answers {status}): set url to the "
            "address in Asterisk's http.conf"
        )

    async def _describe(self, transport: _Transport) -> Any:
        client = aioari.Client(self._settings.url.rstrip("/") + "/", transport)
        try:
            await client.init()
        except (_Refusal, SwaggerError, ValueError, KeyError) as error:
            raise PbxRefused(
                f"Asterisk at {self._settings.url} does not describe its ARI ({error}): the "
                "folder rest-api is missing in its data directory, install the package whole"
            ) from error
        return client

    def _find(self, name: str) -> Any:
        resource, _, operation = name.partition(".")
        found = self._client.swagger.get_resource(resource)
        return None if found is None else found.get_operation(operation)

    async def call(
        self, name: str, /, *, ok: tuple[int, ...] = (), again: bool = True, **parameters: Any
    ) -> Any:
        """Do an operation.

        Args:
            name: `resource.nickname` in ARI's API description.
            ok: HTTP statuses of refusal that are as good as success; the result is None then.
            again: try once more if the connection ends without an answer (Asterisk closes idle
                ones), instead of raising `Dropped`: not for what must not be done twice.
            parameters: in ARI's names.

        Returns:
            The JSON of the answer, or None.
        """
        if self._client is None:
            raise PbxUnreachable(f"not connected to Asterisk at {self._settings.url}")
        operation = self._find(name)
        try:
            response = await operation(**parameters)
        except _Refusal as refusal:
            if refusal.status in ok:
                return None
            raise refusal.translated(name) from None
        except Dropped:
            if not again:
                raise
            return await self.call(name, ok=ok, again=False, **parameters)
        text = await response.text()
        return json.loads(text) if text else None

    async def events(self, app: str) -> aiohttp.ClientWebSocketResponse:
        """Open the events WebSocket of an application, which makes the application active."""
        if self._client is None:
            raise PbxUnreachable(f"not connected to Asterisk at {self._settings.url}")
        socket: aiohttp.ClientWebSocketResponse
        try:
            socket = await self._find("events.eventWebsocket")(app=app)
        except _Refusal as refusal:
            raise refusal.translated("events.eventWebsocket") from None
        return socket

    async def close(self) -> None:
        """Close the connections."""
        transport, self._transport, self._client = self._transport, None, None
        if transport is not None:
            await transport.close()


class _Refusal(Exception):
    """An HTTP status of 400 or more."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status} {message}")
        self.status = status
        self.message = message

    def translated(self, operation: str) -> PbxError:
        return refusal(self.status, operation, self.message)


def refusal(status: int, operation: str, message: str) -> PbxError:
    """The error for an HTTP status that Asterisk answered an operation with."""
    told = f"Asterisk answers {operation} with {status} {message}".rstrip()
    if status == 401:
        return PbxRefused(f"{told}: check username and password against its ari.conf")
    if status == 403:
        return PbxRefused(f"{told}: set read_only=no for our user in its ari.conf")
    # 404: no such channel. 409: not in Stasis any more. 422: the same, of adding it to a mixing
    # bridge. 400: the same again, when it is already destroyed.
    gone = status == 400 and message == "Channel not found"
    if status in (404, 409, 422) or gone:
        return PbxGone(told)
    if status == 503:
        return PbxUnreachable(f"{told}: raise sessionlimit in its http.conf")
    return PbxRefused(told)


class _Answer:
    """A whole HTTP answer, with what aioari asks of one."""

    def __init__(self, text: str) -> None:
        self._text = text

    async def text(self) -> str:
        """For aioari's loader of API descriptions."""
        return self._text


class _Transport:
    """HTTP and WebSocket for aioari: `HttpClient` in its words."""

    def __init__(self, settings: AsteriskSettings) -> None:
        """Raises `PbxRefused`: `ca_file` can't be read."""
        self._settings = settings
        self._base = settings.url.rstrip("/") + "/ari/"
        login = f"{settings.username}:{settings.password}".encode()
        self._session = aiohttp.ClientSession(
            headers={"Authorization": "Basic " + base64.b64encode(login).decode("ascii")},
            timeout=aiohttp.ClientTimeout(total=settings.request_timeout_s),
            connector=aiohttp.TCPConnector(
                limit=_CONNECTIONS,
                keepalive_timeout=_KEEP_ALIVE_S,
                ttl_dns_cache=10,
                ssl=certificate.tls(settings) if settings.url.startswith("https") else True,
            ),
        )

    def _ours(self, url: str) -> str:
        # Asterisk names itself by what it was called in the Host header, always with http.
        return self._base + url.partition("/ari/")[2]

    async def get(self, path: str) -> tuple[int, str, str]:
        """Status, `Server` header and text of whatever answers below /ari/."""
        try:
            async with self._session.get(self._base + path, allow_redirects=False) as response:
                text = await response.text(errors="replace")
                return response.status, response.headers.get("Server", ""), text
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._unreachable(error) from error

    async def request(
        self,
        method: str,
        url: str,
        params: dict[str, Any] | None = None,
        data: Any = None,
        headers: dict[str, str] | None = None,
    ) -> _Answer:
        """One request of aioari's. Raises `_Refusal`, `PbxUnreachable`."""
        try:
            async with self._session.request(
                method, self._ours(url), params=params, data=data, headers=headers
            ) as response:
                text = await response.text()
                status = response.status
        except aiohttp.ClientConnectorError as error:
            raise self._unreachable(error) from error
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            raise Dropped(f"Asterisk at {self._settings.url} ended the connection") from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._unreachable(error) from error
        if status >= 400:
            raise _Refusal(status, _message(text))
        return _Answer(text)

    async def ws_connect(
        self, url: str, params: dict[str, Any] | None = None
    ) -> aiohttp.ClientWebSocketResponse:
        """The events WebSocket, with a ping of its own: aioari has none."""
        settings = self._settings
        try:
            return await self._session.ws_connect(
                # aioari has made it a ws:// URL; aiohttp takes http:// as well.
                self._ours(url),
                params=params,
                heartbeat=settings.ping_s,
                timeout=aiohttp.ClientWSTimeout(ws_close=1.0),
                max_msg_size=4 * 1024 * 1024,
            )
        except aiohttp.WSServerHandshakeError as error:
            raise _Refusal(error.status, "") from None
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._unreachable(error) from error

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    def _unreachable(self, error: Exception) -> PbxUnreachable:
        url = self._settings.url
        if isinstance(error, TimeoutError):
            within = f"{self._settings.request_timeout_s:g} s"
            return PbxUnreachable(f"Asterisk at {url} did not answer within {within}")
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            return PbxUnreachable(certificate.fault(error.certificate_error, url))
        if isinstance(error, aiohttp.ClientConnectorSSLError):
            return PbxUnreachable(certificate.fault(error.os_error, url))
        if isinstance(error, aiohttp.ClientConnectorError):
            return PbxUnreachable(
                f"nobody listens at {url}: start Asterisk, and set enabled=yes, bindaddr and "
                "bindport in its http.conf (or set url to what stands there)"
            )
        return PbxUnreachable(
            f"what listens at {url} does not answer as Asterisk's HTTP server does "
            f"({type(error).__name__}): set url to the address in its http.conf"
        )


def _message(text: str) -> str:
    try:
        message = json.loads(text)["message"]
    except (ValueError, KeyError, TypeError):
        return ""
    return message if isinstance(message, str) else ""
