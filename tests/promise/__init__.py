"""An independent check of the promise: every client ends with the truth, whatever fails.

``client`` folds frames by the protocol page, ``oracle`` says by the rules what is right, ``proxy``
and ``providers`` fail on command, ``program`` draws what happens, and ``run`` lets it happen to a
real gateway. Nothing here reads the state of the core.
"""
