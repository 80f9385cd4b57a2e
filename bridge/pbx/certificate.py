"""Who Asterisk is: of an `https` url certificate and name are always checked, for ARI and audio."""

from __future__ import annotations

import ssl

from bridge.errors import PbxRefused
from bridge.pbx.settings import AsteriskSettings


def tls(settings: AsteriskSettings) -> ssl.SSLContext:
    """Whom to believe: who is named, or whomever the system does. Raises `PbxRefused`."""
    try:
        return ssl.create_default_context(cafile=settings.ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise PbxRefused(
            f"[asterisk] ca_file {settings.ca_file} can't be read ({error}): it takes "
            "certificates (PEM)"
        ) from None


def fault(error: Exception, url: str) -> str:
    """One line of why there is no TLS with what listens at `url`, with the cure."""
    if isinstance(error, ssl.CertificateError):
        why = getattr(error, "verify_message", "") or error
        return (
            f"the certificate of what listens at {url} can't be trusted ({why}): set [asterisk] "
            "ca_file to who has signed it, and url to a name that stands in it"
        )
    return (
        f"what listens at {url} speaks no TLS: set url to http://…, or to the address in "
        "tlsbindaddr of Asterisk's http.conf"
    )
