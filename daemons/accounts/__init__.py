"""Accounts: names and passwords in a file, and one verifier for all protocols.

    accounts.py      Accounts: name, password and peer in, accepted, refused or busy out
    users_file.py    the file: one line for each user, read again when it changes
    hashes.py        the forms of a stored password: scrypt, and SHA-256 for random secrets
    verifier.py      the two threads that compute scrypt
    throttle.py      the rates at which a peer may guess

Nothing here knows a protocol: HTTP, XML-RPC and JSON-RPC translate a verdict into their own words.
"""

from daemons.accounts.accounts import ACCEPTED, BUSY, REFUSED, Accounts, Verdict

__all__ = ["ACCEPTED", "BUSY", "REFUSED", "Accounts", "Verdict"]
