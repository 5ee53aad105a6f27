"""RPyC, restricted to the exposed methods of a service."""
