"""Messages and bytes: what goes over the WebSocket, encoded and framed once."""
