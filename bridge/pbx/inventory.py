"""What Asterisk has, against what we know: who is new, what ended unseen, what nobody owns.

Events are lost while the events WebSocket is away, and StasisStart is never sent again, so after
every reconnect the truth is in Asterisk's listings. This module only compares; it asks and does
nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from bridge.pbx.events import Channel, channel
from bridge.pbx.names import Name, parse_name


@dataclass(frozen=True, slots=True)
class Inventory:
    """What Asterisk had when it was asked."""

    app_channels: frozenset[str]
    """Ids of the channels in our application."""
    channels: Mapping[str, Channel]
    """Every channel, by id."""
    bridges: frozenset[str]
    """Ids of every mixing bridge."""
    elsewhere: frozenset[str] = frozenset()
    """Ids of the channels in mixing bridges that no application has made: those of dialplans."""

    @classmethod
    def of(
        cls,
        application: Mapping[str, Any],
        channels: Collection[dict[str, Any]],
        bridges: Collection[Mapping[str, Any]],
    ) -> Inventory:
        """Of the JSON of /applications/{app}, /channels and /bridges."""
        return cls(
            app_channels=frozenset(application["channel_ids"]),
            channels={c["id"]: channel(c) for c in channels},
            bridges=frozenset(b["id"] for b in bridges),
            elsewhere=frozenset(
                channel_id
                for bridge in bridges
                if bridge.get("bridge_class") != "stasis"
                for channel_id in bridge.get("channels", ())
            ),
        )

    def callers(self) -> list[Channel]:
        """The callers in our application: not what we made, and in Stasis() now."""
        found = (self.channels.get(i) for i in self.app_channels if parse_name(i) is None)
        return [c for c in found if c is not None and c.application == "Stasis"]

    def orphans(self, tokens: Mapping[str, Collection[str]]) -> dict[str, Name]:
        """Things of ours that belong to no call, by id.

        Args:
            tokens: those of each call's living leg, by the caller's channel id.
        """
        names = {thing: parse_name(thing) for thing in (*self.channels, *self.bridges)}
        return {
            thing: name
            for thing, name in names.items()
            if name is not None and self.is_orphan(name, tokens)
        }

    def is_orphan(self, name: Name, tokens: Mapping[str, Collection[str]]) -> bool:
        """Whether a thing of this name belongs to no call.

        So it is if its caller is gone or has left Stasis(), or if its call has a leg of ours that
        did not make it. What belongs to a caller in Stasis() whom we don't know may be another
        worker's, and is left alone; so is whom we had rung, once he talks to somebody.
        """
        if name.kind == "f" or (name.kind and str(name) in self.elsewhere):
            return False  # the far end of a Local channel goes with the near one
        if name.caller in tokens:
            return name.token not in tokens[name.caller]
        caller = self.channels.get(name.caller)
        return caller is None or caller.application != "Stasis"


def arguments(found: Channel) -> tuple[str, ...]:
    """What the dialplan passed to Stasis(), for a channel that is in it: as StasisStart tells."""
    return tuple(found.application_data.split(",")[1:])
