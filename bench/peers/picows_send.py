"""picows on uvloop, as its documentation recommends: one ``send`` per client and message."""

import uvloop
from picows import (
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    ws_create_server,
)

from bench.peers.load import JOIN_JSON, LIST_JSON, Load, obey

joined: set[WSTransport] = set()


class Listener(WSListener):
    """One client."""

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Greet."""
        transport.send(WSMsgType.TEXT, LIST_JSON.encode())

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Any text asks to join."""
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
        elif frame.msg_type == WSMsgType.TEXT:
            transport.send(WSMsgType.TEXT, JOIN_JSON.encode())
            joined.add(transport)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Forget it."""
        joined.discard(transport)


def listener(_: WSUpgradeRequest) -> Listener:
    """Accept every client."""
    return Listener()


async def main() -> None:
    """Serve until standard input ends."""
    load = Load()

    async def burst(count: int) -> None:
        for event in load.events(count):
            payload = event.json().encode()
            for transport in joined:
                transport.send(WSMsgType.TEXT, payload)

    server = await ws_create_server(listener, "127.0.0.1", 0)
    async with server:
        await obey(server.sockets[0].getsockname()[1], burst)


if __name__ == "__main__":
    uvloop.run(main())
