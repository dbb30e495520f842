"""The pure rules: how layers merge, what the operator's policy does to them, and the numbered
changes of the result. No I/O."""
