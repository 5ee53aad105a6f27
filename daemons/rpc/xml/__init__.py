"""XML-RPC."""
