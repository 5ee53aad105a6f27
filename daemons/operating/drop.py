"""The section [drop]: who the daemon becomes once it has its ports.

root is needed to bind a port below 1024, and for nothing after that.  What is opened before (listeners, the
private key of a certificate, the log) stays open; what is opened later is opened as the new user.  The
environment stays as it is, HOME too.
"""

from __future__ import annotations

import grp
import os
import pwd
from dataclasses import dataclass

from daemons.settings.values import FieldType, setting


class DropError(Exception):
    """The daemon cannot become who it should, or could become root again."""


def _parse_user(text: str) -> str:
    try:
        return (pwd.getpwuid(int(text)) if text.isdecimal() else pwd.getpwnam(text)).pw_name
    except (KeyError, OverflowError):
        raise ValueError("no such user on this machine, see getent passwd") from None


def _parse_group(text: str) -> str:
    try:
        return (grp.getgrgid(int(text)) if text.isdecimal() else grp.getgrnam(text)).gr_name
    except (KeyError, OverflowError):
        raise ValueError("no such group on this machine, see getent group") from None


@dataclass(frozen=True)
class Drop:
    """The section [drop]: the user and group of the daemon after the bind, where root has started it."""

    user: str = setting(FieldType(_parse_user, str, "user"), "", "user after the bind; empty: unchanged")
    group: str = setting(
        FieldType(_parse_group, str, "group"), "", "the one group to be in; by default the groups of the user"
    )

    @property
    def uid(self) -> int:
        """The user to be; -1: whoever it is, as chown(2) has it."""
        return pwd.getpwnam(self.user).pw_uid if self.user else -1

    @property
    def gid(self) -> int:
        """The group to be in; -1: whichever it is."""
        if self.group:
            return grp.getgrnam(self.group).gr_gid
        return pwd.getpwnam(self.user).pw_gid if self.user else -1

    @property
    def done(self) -> bool:
        """Whether there is nothing to do, or nothing left."""
        return set(os.getresuid()) <= {self.uid if self.user else os.getuid()} and (
            self.gid == -1 or set(os.getresgid()) == {self.gid}
        )

    def hand_over(self, path: str) -> None:
        """Give a file, as long as that can be done, to who the daemon will be.  Raises `OSError`."""
        if not self.done:
            os.chown(path, self.uid, self.gid)

    def contradictions(self, where: str) -> list[str]:
        """Return why no process can do it; `where` names the file."""
        if self.group and not self.user:
            return [f"{where} [drop] group = {self.group}: there is no user; write user = NAME too"]
        return []

    def complaints(self, where: str) -> list[str]:
        """Return why this process cannot do it; `where` names the file."""
        complaints = self.contradictions(where)
        if os.geteuid() != 0 and not self.done:
            whom = f"user = {self.user}" if self.user else f"group = {self.group}"
            complaints.append(
                f"{where} [drop] {whom}: only root can become somebody else, and uid {os.geteuid()} is not root; "
                "start it as root, or as that user, or take the line away"
            )
        return complaints

    def become(self) -> None:
        """Become that user, for good.  Raises `DropError`.  Before there is any thread or child."""
        if self.done or not self.user:
            return
        try:
            # In this order: without root's rights none of the groups could be changed.
            os.setgroups([self.gid] if self.group else os.getgrouplist(self.user, self.gid))
            os.setresgid(self.gid, self.gid, self.gid)
            os.setresuid(self.uid, self.uid, self.uid)
        except OSError as error:
            raise DropError(f"cannot become {self.user}: {error.strerror}") from error
        if self.uid != 0:
            try:
                os.setuid(0)
            except OSError:
                return
            raise DropError(f"has become {self.user}, but could become root again")
