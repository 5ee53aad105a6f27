"""Shows what a web site is made of, on WSGI: forms, sessions, a bank, and other people's frameworks.

[daemon]
wsgi = daemons.webapp:Webapp
port = 8001
engine = pool
"""

from daemons.webapp.application import Webapp

__all__ = ["Webapp"]
