"""Pure rules, no I/O: how layers merge, how the operator's policy applies to the result, and the
numbered changes of the effective state."""
