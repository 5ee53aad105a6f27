"""From accept() to a reply: listeners, servers, engines, guards, the pump, and the conversation behind it."""
