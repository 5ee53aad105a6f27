"""Clients of the DNS, of WHOIS and of the system's name service."""
