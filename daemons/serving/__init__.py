"""Servers: listeners, guards, engines, the pump, and sans-IO conversations."""
