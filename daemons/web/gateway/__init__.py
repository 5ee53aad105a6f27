"""The gateway to upstream servers: RFC 9110, section 3.7."""
