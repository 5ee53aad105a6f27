"""Configured parts of a site: redirects, protected paths, documents, and paths of upstream servers."""
