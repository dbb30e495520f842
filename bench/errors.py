"""What ends a measurement, or a whole run."""


class BenchError(Exception):
    """A server, a client or a tool does not do what the measurement needs; the message is for
    the table."""
