"""Client library for caches that speak memcached's protocol: the daemon cached, and memcached itself.

    keys.py          keys that are valid for any arguments
    servers.py       several servers: which one has a key, and which of them is down
    cache.py         `Cache`: values as JSON, computed once where they are missing
    decorator.py     `cached`: results of a function

Requires pymemcache, from the extra ``cache``.
"""

from daemons.caching.cache import Cache
from daemons.caching.decorator import cached
from daemons.caching.keys import key
from daemons.caching.servers import hash_client

__all__ = ["Cache", "cached", "hash_client", "key"]
