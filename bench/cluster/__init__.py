"""An origin, edges and NATS on one machine: a demonstration, and measurements."""
