"""The operator's settings of the media process."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MediaSettings:
    """Table `[media]`."""

    listen_address: str = "127.0.0.1"
    """Where RTP of all calls is received and sent from (IPv4)."""
    port: int = 7000
    """UDP port of all calls; 0 lets the system choose one."""
    advertised_address: str = ""
    """What Asterisk is told to send to, if not `listen_address` (NAT, containers)."""
    runtime_dir: str = "/tmp/ari-bridge"  # noqa: S108 - a default that any user can have
    """Holds the control socket and the slots; workers of this host use the same."""
    max_calls: int = 1000
    playout_ms: int = 20_000
    """Agent audio that a call may have waiting, at 8 kHz; half of it at 16 kHz."""
    dtx: bool = False
    """Send nothing in silence; else silence is sent."""
    grace_ms: int = 30_000
    """How long a call's slot outlives its worker."""

    def __post_init__(self) -> None:
        """Check ranges."""
        for name, least, most in (
            ("port", 0, 65535),
            ("max_calls", 1, 20_000),
            ("playout_ms", 1000, 120_000),
            ("grace_ms", 0, 3_600_000),
        ):
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"'{name}' must be between {least} and {most}")
        if self.playout_ms % 40:
            raise ValueError("'playout_ms' must be a multiple of 40")
