import asyncio

from picows import WSMsgType

from bridge.engines.socket import Socket


class Transport:
    """A connection whose messages are kept in `sent`, which several may share."""

    is_disconnected = True

    def __init__(self, name, sent):
        self.name, self.sent = name, sent

    def send(self, kind, data):
        self.sent.append((self.name, kind, data))


def opened(name, sent):
    socket = Socket("ws://bot", lambda _: None, None)
    socket.on_ws_connected(Transport(name, sent))
    return socket


async def test_what_a_round_sends_goes_out_at_its_end_in_order():
    sent = []
    a, b = opened("a", sent), opened("b", sent)
    assert a.send(b"1")
    assert b.send_binary(b"2")
    assert a.send_binary(b"3")
    assert sent == []
    await asyncio.sleep(0)
    text, binary = WSMsgType.TEXT, WSMsgType.BINARY
    assert sent == [("a", text, b"1"), ("b", binary, b"2"), ("a", binary, b"3")]
    assert b.send(b"4")
    await asyncio.sleep(0)
    assert sent[3:] == [("b", text, b"4")]


async def test_closing_sends_first_what_waits():
    sent = []
    socket = opened("a", sent)
    socket.send(b"stop")
    await socket.close()
    assert [data for _, _, data in sent] == [b"stop"]
    assert not socket.send(b"more")
    await asyncio.sleep(0)
    assert len(sent) == 1


async def test_a_bot_that_does_not_read_is_sent_nothing_more():
    sent = []
    socket = opened("a", sent)
    assert socket.send_binary(b"1")
    socket.pause_writing()
    assert not socket.send_binary(b"2")
    assert socket.refused == 1
    socket.resume_writing()
    assert socket.send_binary(b"3")
    await asyncio.sleep(0)
    assert [data for _, _, data in sent] == [b"1", b"3"]
