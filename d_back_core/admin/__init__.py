"""For operators of a running gateway: the explanation of its state, and the control socket."""
