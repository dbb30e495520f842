"""The WebSocket and HTTP front: who may connect, and what is written to each client."""
