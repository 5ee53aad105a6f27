"""Validators of a representation, and conditional requests: RFC 9110, sections 8.8 and 13."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from daemons.web.field_cache import field_cache

#: An entity tag in a list (RFC 9110, section 8.8.3).
_TAG = re.compile(r'[ \t,]*(W/)?("[!#-~\x80-\xff]*")[ \t]*(?:,|$)')

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

#: HTTP dates (RFC 9110, section 5.6.7): IMF-fixdate, and the obsolete forms of RFC 850 and asctime(3).
_DATES = tuple(
    re.compile(form.replace("TIME", r"(?P<h>\d\d):(?P<m>\d\d):(?P<s>\d\d)").replace("MON", "(?P<mon>[A-Z][a-z]{2})"))
    for form in (
        r"[A-Z][a-z]{2}, (?P<d>\d\d) MON (?P<y>\d{4}) TIME GMT",
        r"[A-Z][a-z]{5,8}, (?P<d>\d\d)-MON-(?P<y>\d\d) TIME GMT",
        r"[A-Z][a-z]{2} MON (?P<d>[ \d]\d) TIME (?P<y>\d{4})",
    )
)


class Validators(NamedTuple):
    """Validators of a representation."""

    #: Strong entity tag, with its quotes.
    tag: str
    #: Last-Modified, in seconds since 1970.
    modified: int


def tag_of(modified: int, size: int, mark: str = "") -> str:
    """Return the entity tag of a file.

    `modified` is in nanoseconds since 1970, `size` in bytes; `mark` distinguishes representations of one file."""
    return f'"{modified:x}-{size:x}{mark}"'


def evaluate_write_preconditions(fields: Mapping[str, str], have: Validators | None) -> int:
    """Evaluate the conditions of a request that modifies a resource: return 412 if one is false, else 0.

    `have` is None if the resource does not exist; then If-Unmodified-Since is ignored.  If-Modified-Since is for GET
    and HEAD only.  `fields` have lower-case names."""
    match = fields.get("if-match")
    if match is not None:
        if have is None or not _lists(match, have.tag, weakly=False):
            return 412
    elif have is not None and (limit := date(fields.get("if-unmodified-since"))) is not None and have.modified > limit:
        return 412
    none = fields.get("if-none-match")
    return 412 if none is not None and have is not None and _lists(none, have.tag, weakly=True) else 0


def evaluate_preconditions(fields: Mapping[str, str], have: Validators) -> int:
    """Evaluate the conditions of a GET or HEAD request: return 200, 304 or 412 (RFC 9110, section 13.2.2).

    `fields` have lower-case names."""
    match = fields.get("if-match")
    if match is not None:
        if not _lists(match, have.tag, weakly=False):
            return 412
    elif (limit := date(fields.get("if-unmodified-since"))) is not None and have.modified > limit:
        return 412
    none = fields.get("if-none-match")
    if none is not None:
        return 304 if _lists(none, have.tag, weakly=True) else 200
    since = date(fields.get("if-modified-since"))
    return 304 if since is not None and have.modified <= since else 200


def evaluate_if_range(value: str | None, have: Validators, now: int) -> bool:
    """Return whether If-Range allows a range to be sent (RFC 9110, section 13.1.5).

    A date is a strong validator only if the file cannot have been written again within that second (section 8.8.2.2).
    """
    if value is None:
        return True
    if value.startswith(('"', "W/")):
        return value == have.tag
    return date(value) == have.modified and have.modified < now


def _lists(value: str, tag: str, *, weakly: bool) -> bool:
    """Return whether a list of entity tags contains `tag`.  A malformed list contains none."""
    if value == "*":
        return True
    at = 0
    found = False
    while at < len(value):
        match = _TAG.match(value, at)
        if match is None:
            return False
        found |= match[2] == tag and (weakly or not match[1])
        at = match.end()
    return found


@field_cache
def date(value: str | None) -> int | None:
    """Parse an HTTP date; return seconds since 1970, or None for an invalid date or no value."""
    match = None if value is None else next((found for form in _DATES if (found := form.fullmatch(value))), None)
    if match is None:
        return None
    year = int(match["y"])
    try:
        month = _MONTHS.index(match["mon"]) + 1
        time = [int(match[part]) for part in ("d", "h", "m", "s")]
        if len(match["y"]) == 2:
            # A year more than 50 years in the future is in the past century.
            this = datetime.now(UTC).year
            year += this - this % 100
            year -= 100 if year > this + 50 else 0
        # datetime has no leap seconds.
        leap = time[3] == 60
        when = datetime(year, month, time[0], time[1], time[2], time[3] - leap, tzinfo=UTC) + timedelta(seconds=leap)
        return int(when.timestamp())
    except (ValueError, OverflowError):
        return None
