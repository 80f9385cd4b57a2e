"""The API's client, for the command line: plain HTTP to the web process of this host."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from bridge.config import Config
from bridge.errors import BridgeError
from bridge.web import tls
from bridge.web.token import read_token

_TIMEOUT_S = 20.0
_PIECE = 4096


class ApiUnreachable(BridgeError):
    """Nobody answers there."""


class ApiRefused(BridgeError):
    """The API answers, and says no, with a reason."""


class Client:
    """Speaks with the API that the configuration names."""

    def __init__(self, config: Config) -> None:
        """Raises `ConfigError` where there is no token."""
        web = config.web
        # Where it listens everywhere, it listens here.
        self._host = "127.0.0.1" if web.address in ("0.0.0.0", "::") else web.address  # noqa: S104
        self._port = web.port
        self._token = read_token(web.token_file, config.media.runtime_dir)
        self._trust = tls.client(web)

    def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        within_s: float = _TIMEOUT_S,
    ) -> Any:
        """The JSON of an answer. Raises `ApiUnreachable`, `ApiRefused`."""
        with self._answer(method, path, body, headers or {}, within_s) as response:
            return self._json(response)

    def stream(self, path: str) -> Iterator[bytes]:
        """What an answer without end holds, as it comes. Raises as `ask`."""
        with self._answer("GET", path, None, {}) as response:
            if response.status >= 400:
                self._json(response)
            while piece := response.read1(_PIECE):
                yield piece

    @contextlib.contextmanager
    def _answer(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        headers: Mapping[str, str],
        within_s: float = _TIMEOUT_S,
    ) -> Iterator[http.client.HTTPResponse]:
        connection = self._connection(within_s)
        try:
            connection.request(
                *(method, path, json.dumps(body) if body is not None else None),
                headers={
                    "Authorization": f"Bearer {self._token}",
                    "Content-Type": "application/json",
                    **headers,
                },
            )
            yield connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise ApiUnreachable(
                f"no API at {self._host}:{self._port} ({error}): set [web] enabled = true for "
                "'ari-bridge run', or start 'ari-bridge web'"
            ) from None
        finally:
            connection.close()

    def _connection(self, within_s: float) -> http.client.HTTPConnection:
        if self._trust is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=within_s)
        return http.client.HTTPSConnection(
            self._host, self._port, timeout=within_s, context=self._trust
        )

    def _json(self, response: http.client.HTTPResponse) -> Any:
        text = response.read().decode(errors="replace")
        try:
            answer = json.loads(text) if text else None
        except ValueError:
            raise ApiUnreachable(
                f"what listens at {self._host}:{self._port} is no API of ours; see [web] port"
            ) from None
        if response.status >= 400:
            raise ApiRefused(str((answer or {}).get("reason") or f"status {response.status}"))
        return answer


def call_path(call_id: str, verb: str = "") -> str:
    """Of a call, or of something to do with it."""
    return f"/v1/calls/{quote(call_id, safe='')}" + (f"/{verb}" if verb else "")
