"""Parts of a site: protected, moved, written to, or answered by upstream servers."""
