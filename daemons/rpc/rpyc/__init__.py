"""RPyC, restricted to what a service exposes."""
