"""The section [drop]: privileges to drop after the bind.

Only the bind of a port below 1024 needs root.  Files opened before (listeners, private key, log) stay open; later files
are opened as the new user.  The environment is not changed, HOME included.
"""

from __future__ import annotations

import grp
import os
import pwd
from dataclasses import dataclass

from daemons.settings.values import FieldType, setting


class DropError(Exception):
    """The daemon cannot change its user, or could become root again."""


def _parse_user(text: str) -> str:
    try:
        return (pwd.getpwuid(int(text)) if text.isdecimal() else pwd.getpwnam(text)).pw_name
    except (KeyError, OverflowError):
        raise ValueError("no such user on this system, see getent passwd") from None


def _parse_group(text: str) -> str:
    try:
        return (grp.getgrgid(int(text)) if text.isdecimal() else grp.getgrnam(text)).gr_name
    except (KeyError, OverflowError):
        raise ValueError("no such group on this system, see getent group") from None


@dataclass(frozen=True)
class Drop:
    """The section [drop]: user and group of a daemon started by root, after the bind."""

    user: str = setting(FieldType(_parse_user, str, "user"), "", "user after the bind; empty: unchanged")
    group: str = setting(
        FieldType(_parse_group, str, "group"), "", "the only group after the bind; by default all groups of the user"
    )

    @property
    def uid(self) -> int:
        """The user id; -1 for no change, as in chown(2)."""
        return pwd.getpwnam(self.user).pw_uid if self.user else -1

    @property
    def gid(self) -> int:
        """The group id; -1 for no change."""
        if self.group:
            return grp.getgrnam(self.group).gr_gid
        return pwd.getpwnam(self.user).pw_gid if self.user else -1

    @property
    def done(self) -> bool:
        """Whether the process has the user and group already."""
        return set(os.getresuid()) <= {self.uid if self.user else os.getuid()} and (
            self.gid == -1 or set(os.getresgid()) == {self.gid}
        )

    @property
    def pending(self) -> bool:
        """Whether `become` will change the user."""
        return bool(self.user) and not self.done

    def hand_over(self, path: str) -> None:
        """Change the owner of a file to the new user, before `become`.  Raises `OSError`."""
        if not self.done:
            # The new user may own the folder, and replace the file by a link to one of root's.
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def contradictions(self, where: str) -> list[str]:
        """Return complaints that hold for every process; `where` names the file."""
        if self.group and not self.user:
            return [f"{where} [drop] group = {self.group}: needs a user; write user = NAME too"]
        return []

    def complaints(self, where: str) -> list[str]:
        """Return complaints that hold for this process; `where` names the file."""
        complaints = self.contradictions(where)
        if os.geteuid() != 0 and not self.done:
            change = f"user = {self.user}" if self.user else f"group = {self.group}"
            complaints.append(
                f"{where} [drop] {change}: only root can change its user, and uid {os.geteuid()} is not root; "
                "start the daemon as root or as that user, or remove the line"
            )
        return complaints

    def become(self) -> None:
        """Change to the user, irreversibly; call before the first thread or child.  Raises `DropError`."""
        if not self.pending:
            return
        try:
            # The user comes last: only root can change groups.
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
