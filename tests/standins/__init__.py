"""Servers that stand in for vendors: each checks all that it gets against its vendor's own SDK."""
