"""TLS of the API: whom it shows itself as, and how its own command line knows it again."""

from __future__ import annotations

import re
import ssl
from pathlib import Path

from bridge.config import WebSettings
from bridge.errors import ConfigError

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.DOTALL)


def server(settings: WebSettings) -> ssl.SSLContext | None:
    """For who serves; None: plain HTTP. Raises `ConfigError`."""
    if not settings.certificate_file:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    load(context, settings)
    return context


def load(context: ssl.SSLContext, settings: WebSettings) -> None:
    """Read the certificate, which holds for connections from now on. Raises `ConfigError`."""
    try:
        # A key with a passphrase would ask the terminal for it.
        context.load_cert_chain(
            settings.certificate_file, settings.key_file or None, password=lambda: ""
        )
    except (OSError, ssl.SSLError) as error:
        files = settings.certificate_file
        files += f" with {settings.key_file}" if settings.key_file else ""
        why = error.strerror or str(error)
        raise ConfigError(
            f"the API's certificate {files} can't be used ({why}): [web] certificate_file takes "
            "the certificate and those of its issuers, key_file its key without a passphrase (PEM)"
        ) from None


def client(settings: WebSettings) -> ssl.SSLContext | None:
    """For the command line of the same host: it trusts this certificate and no other, whatever
    names stand in it. None: plain HTTP. Raises `ConfigError`."""
    if not settings.certificate_file:
        return None
    try:
        found = _CERTIFICATE.search(Path(settings.certificate_file).read_text(encoding="ascii"))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False  # it is called by address; the certificate itself is known
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.load_verify_locations(cadata=found[0] if found else "")
    except (OSError, ValueError, ssl.SSLError) as error:
        raise ConfigError(
            f"the API's certificate {settings.certificate_file} can't be read: {error}"
        ) from None
    return context
