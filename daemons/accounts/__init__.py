"""Accounts: names and passwords in a file, and one verifier for all protocols.

    accounts.py      Accounts: decides on a name, a password and a peer: accepted, refused or busy
    users_file.py    the file: one line per user, read again when it changes
    hashes.py        formats of a stored password: scrypt, and SHA-256 for random secrets
    verifier.py      the two threads that compute scrypt
    throttle.py      rate limits on password guessing

This package is independent of protocols: HTTP, XML-RPC and JSON-RPC convert a verdict to their own responses.
"""

from daemons.accounts.accounts import ACCEPTED, BUSY, REFUSED, Accounts, Verdict

__all__ = ["ACCEPTED", "BUSY", "REFUSED", "Accounts", "Verdict"]
