"""How a session with OpenAI's spoken model is set up: the agent's table, as the API's own words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from openai.types.realtime import (
    RealtimeAudioFormatsParam,
    RealtimeAudioInputTurnDetectionParam,
    RealtimeSessionCreateRequestParam,
)

from bridge.engines.openai_items import tool
from bridge.engines.wire import Past, SpeechSettings

FORMATS: dict[str, RealtimeAudioFormatsParam] = {
    "pcmu": {"type": "audio/pcmu"},
    "pcma": {"type": "audio/pcma"},
    "pcm": {"type": "audio/pcm", "rate": 24000},
}


@dataclass(frozen=True, kw_only=True)
class OpenAiSettings(SpeechSettings):
    """The table `[openai-realtime]` of an agent file."""

    model: str = "gpt-realtime-2.1"
    voice: str = "marin"
    url: str = "wss://api.openai.com/v1"
    """Where the API is; `/realtime` is added."""
    api_key_env: str = "OPENAI_API_KEY"
    """The environment variable that holds the key."""
    format: Literal["auto", "pcmu", "pcma", "pcm"] = "auto"
    """Of the audio both ways: G.711, or PCM at 24 kHz; auto: PCMU on a line of 8 kHz, else PCM."""
    turn_detection: Literal["server_vad", "semantic_vad"] = "server_vad"
    """Turns end by silence, or by what the model makes of the words."""
    silence_ms: int = 500
    """Silence that ends a turn (server_vad)."""
    vad_threshold: float = 0.5
    """How sure its detector has to be of speech, 0 to 1 (server_vad)."""
    eagerness: Literal["low", "medium", "high", "auto"] = "auto"
    """How soon it takes a turn for over (semantic_vad)."""
    noise_reduction: Literal["off", "near_field", "far_field"] = "off"
    transcription_model: str = "gpt-4o-mini-transcribe"
    """Writes down what the caller says, for the transcript and for resuming; "": nobody does."""


def session(
    settings: OpenAiSettings,
    past: Past,
    audio: RealtimeAudioFormatsParam,
    language: str,
    interrupts: bool,
) -> RealtimeSessionCreateRequestParam:
    """The session, in which the vendor `interrupts` and answers by itself, or does neither."""
    found: RealtimeSessionCreateRequestParam = {
        "type": "realtime",
        "output_modalities": ["audio"],
        "instructions": past.messages[0].text,
        "tools": [tool(function) for function in past.functions],
        "audio": {
            "input": {"format": audio, "turn_detection": _detection(settings, interrupts)},
            "output": {"format": audio, "voice": settings.voice},
        },
    }
    if settings.noise_reduction != "off":
        found["audio"]["input"]["noise_reduction"] = {"type": settings.noise_reduction}
    if settings.transcription_model:
        found["audio"]["input"]["transcription"] = {
            "model": settings.transcription_model,
            "language": language,
        }
    return found


def _detection(settings: OpenAiSettings, by_itself: bool) -> RealtimeAudioInputTurnDetectionParam:
    if settings.turn_detection == "semantic_vad":
        return {
            "type": "semantic_vad",
            "eagerness": settings.eagerness,
            "create_response": by_itself,
            "interrupt_response": by_itself,
        }
    return {
        "type": "server_vad",
        "threshold": settings.vad_threshold,
        "silence_duration_ms": settings.silence_ms,
        "create_response": by_itself,
        "interrupt_response": by_itself,
    }
