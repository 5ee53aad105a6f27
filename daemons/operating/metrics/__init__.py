"""The metrics of a daemon: a scoreboard in shared memory, ``daemons stats``, Prometheus."""
