"""What operators ask of a running gateway: the explanation of its state, and the socket it
is asked on."""
