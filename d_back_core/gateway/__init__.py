"""The sockets: who may connect, what is written to each client, and plain HTTP."""
