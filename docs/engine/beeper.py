"""An engine of your own: beeps at every turn of the caller's, and says in the transcript why."""

import numpy as np

from bridge.engines.base import Audio, ItemDone, PerCall, ReplyDone, Text, TurnCommitted


class Beeper:
    rate = 16000
    turns = "bridge"  # which tells when a turn is over, and cuts us short when the caller speaks

    def __init__(self, hz=800):
        self.tone = (np.sin(np.arange(8000) * hz * 2 * np.pi / 16000) * 8000).astype(np.int16)

    async def start(self, context):
        self.context = context

    def hear(self, at_ms, pcm):
        """The caller's audio, int16."""

    def notify(self, event):
        if isinstance(event, TurnCommitted):
            item, emit = self.context.new_item(), self.context.emit
            for given in Text(item, f"Turn {event.turn}."), Audio(item, self.tone), ItemDone(item):
                emit(given)
            emit(ReplyDone())

    async def close(self):
        """Nothing to let go of."""


def provider(agent, shared):
    return PerCall(lambda: Beeper(**agent.options))
