"""Demo web site on WSGI: forms, sessions, a bank, and applications of other frameworks.

[daemon]
wsgi = daemons.webapp:Webapp
port = 8001
engine = pool
"""

from daemons.webapp.application import Webapp

__all__ = ["Webapp"]
