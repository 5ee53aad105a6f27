"""Clients of the web: `daemons fetch`, `links`, `scrape` and `url`.

HTTP is httpx2's and httpcore2's, the cache hishel's, HTML Beautiful Soup's and lxml's, robots.txt protego's.  Only the
tools themselves may be imported without these packages.
"""
