"""Who Asterisk is: its certificate and name are always checked."""

from __future__ import annotations

import ssl
from urllib.parse import urlsplit

from bridge.errors import PbxRefused
from bridge.pbx.settings import AsteriskSettings


def tls(settings: AsteriskSettings) -> ssl.SSLContext:
    """What TLS to an Asterisk is checked by. Raises `PbxRefused`: `ca_file` can't be read."""
    try:
        return ssl.create_default_context(cafile=settings.ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise PbxRefused(
            f"{settings.ca_file} can't be read as a certificate in PEM ({error.strerror or error})"
            ": set [asterisk] ca_file to that of who has signed Asterisk's"
        ) from error


def fault(error: Exception, url: str) -> str:
    """One line of why TLS with what listens at `url` failed, with the cure."""
    where = urlsplit(url).netloc
    if isinstance(error, ssl.SSLCertVerificationError):
        why = error.verify_message
        if error.verify_code in _NAMES:
            return (
                f"the certificate of Asterisk at {where} is for another name ({why}): let "
                "[asterisk] url say the name that stands in it, or have one made for this name"
            )
        if error.verify_code == _EXPIRED:
            return f"the certificate of Asterisk at {where} has expired: renew it"
        return (
            f"the certificate of Asterisk at {where} is not trusted ({why}): set [asterisk] "
            "ca_file to the certificate of who has signed it"
        )
    why = getattr(error, "reason", None) or str(error)
    return (
        f"no TLS with what listens at {where} ({why}): let [asterisk] url say the port of "
        "tlsbindaddr in Asterisk's http.conf"
    )


# X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH; X509_V_ERR_CERT_HAS_EXPIRED
# (openssl/x509_vfy.h).
_NAMES, _EXPIRED = (62, 64), 10
