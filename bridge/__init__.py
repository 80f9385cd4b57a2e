"""ari-bridge: connects calls of an Asterisk PBX to AI voice agents."""

__version__ = "0.1.0"
