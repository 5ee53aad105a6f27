"""Files below a root: lookup, conditions, ranges, languages, codings."""
