"""``d-back watch``: a server in the terminal.

`command` joins and ends; `lines` writes for pipes and files, `screen` and `members` draw for
people; `words` says in words what a frame tells, with nothing in it that a terminal would obey.
"""
