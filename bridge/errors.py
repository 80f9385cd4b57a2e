"""Every error that this package raises.

    BridgeError
    ├── ConfigError          the operator's files: names file, key and cure
    ├── PbxError             the PBX refused or failed
    │   ├── PbxUnreachable   nobody answers there
    │   ├── PbxRefused       it answers, and says no (password, missing right, no such extension)
    │   │   └── PbxNotAnswered whom we called is busy, doesn't answer or can't be reached
    │   └── PbxGone          the channel or mixing bridge is there no more (the caller hung up)
    ├── MediaError           the media process refused or failed
    │   ├── MediaUnreachable it is not there, or its socket ended
    │   └── MediaFull        every slot is taken
    ├── EngineError          an engine failed
    │   ├── EngineMissing    its extra, model or key is not installed
    │   ├── EngineRefused    its far end answers, and says no (a wrong key)
    │   └── EngineLost       its connection or process can't be had, or ended in mid-call
    ├── RecordingError       a recording isn't there, or can't be read as it is
    ├── ToolError            a tool can't do what was asked of it: a model is told why
    └── SessionError         the session store failed
        └── StoreUnreachable Redis does not answer

A foreign library's exceptions are translated where they enter. A message is one line; where the
operator can do something about it, it names the cure.
"""


class BridgeError(Exception):
    """Base of every error of this package."""


class ConfigError(BridgeError):
    """A file of the operator's can't be used as it is."""


class PbxError(BridgeError):
    """The PBX refused or failed."""


class PbxUnreachable(PbxError):
    """Nobody answers at the PBX's address."""


class PbxRefused(PbxError):
    """The PBX answers, and says no."""


class PbxNotAnswered(PbxRefused):
    """Whom we called did not answer; `result` is `busy`, `no-answer`, `congestion` or
    `unavailable`."""

    def __init__(self, result: str, reason: str) -> None:
        super().__init__(reason)
        self.result = result


class PbxGone(PbxError):
    """The channel or mixing bridge that was meant is there no more."""


class MediaError(BridgeError):
    """The media process refused or failed."""


class MediaUnreachable(MediaError):
    """The media process is not there, or its socket ended."""


class MediaFull(MediaError):
    """Every slot is taken."""


class EngineError(BridgeError):
    """An engine failed."""


class EngineMissing(EngineError):
    """An engine's extra, model or key is not installed."""


class EngineRefused(EngineError):
    """An engine's far end answers, and says no: the key is wrong, or the service isn't ours."""


class EngineLost(EngineError):
    """An engine's connection or process can't be had, or ended in mid-call."""


class RecordingError(BridgeError):
    """A recording isn't there, or can't be read as it is."""


class ToolError(BridgeError):
    """A tool can't do what was asked of it; a model reads the message, and may try otherwise."""


class SessionError(BridgeError):
    """The session store failed."""


class StoreUnreachable(SessionError):
    """Redis does not answer."""
