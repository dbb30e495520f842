"""``d-back watch``: a server in the terminal.

- `command`: the command line, the connection, and the end of both.
- `lines`: the output for pipes and files.
- `screen` and `members`: the screen for terminals.
- `descriptions`: a frame as text, without control characters.
"""
