"""Guards: who may come, how many, how long.  Each is asked in order; the first refusal says why."""
