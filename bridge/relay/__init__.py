"""Encrypted audio between hosts: Asterisk's WebSocket with TLS, made RTP for our media process.

Theory of operation. Where `[asterisk] media_transport = "websocket"`, a call's external media is a
channel of Asterisk's chan_websocket that waits for a connection (`connection_type=server`). ARI's
answer names it by a random id; the worker hands that to the relay of its host, which connects to
the same HTTPS server as ARI, `wss://…/media/ID`, and then stands between two:

    Asterisk ══ TLS: a binary message a frame ══▶ relay ── RTP, loopback ──▶ media
             ◀═════════════════════════════════         ◀──────────────────

The media process knows nothing of it: each call has a UDP port of the relay's own, as it would have
one of Asterisk's. Slots, jitter, standby stay as they are.

Who may speak: we check Asterisk's certificate and name; Asterisk takes only who knows the id (122
random bits, told to ARI's user alone, through TLS, good for one connection and as long as the
channel lives). On our side a flow's UDP socket takes packets from the media process alone, and
sends to addresses of this host alone, so that nothing leaves it unencrypted. The bridge's host
needs no open port and no certificate of its own.

What each death costs:

    relay             its connections end, so Asterisk ends the channels; each call's leg makes
                      another, which the relay that stood by connects *to the same UDP port*: the
                      slot, and all that is queued in it, goes on
    a connection      the same
    worker            nothing: the flow lasts as long as its channel, whoever owns the call
    media             nothing: its successor has the same port
    Asterisk, network TCP gives up after `LOST_MS`; the leg does the rest once ARI is back

What a WebSocket can't carry: sequence numbers and timestamps. Packets that the phone's network lost
leave no trace (the media process' timeline makes up for the time by the clock), and a TCP that has
to send again delays all behind it. Downwards Asterisk queues, and takes a frame every 20 ms by its
own clock: what has piled up there would stay for ever, so the relay asks for the queue's length and
leaves out silent frames until it is short (`stream.Downstream`).
"""
