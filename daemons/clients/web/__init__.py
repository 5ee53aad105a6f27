"""Web clients: `daemons fetch`, `links`, `scrape` and `url`.

They use httpx2 and httpcore2 for HTTP, hishel for the cache, Beautiful Soup and lxml for HTML, and protego for
robots.txt.  Only the modules of the tools themselves can be imported without these packages.
"""
