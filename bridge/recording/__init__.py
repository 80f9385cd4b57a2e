"""Calls as sound files: what is written while they go on, and what becomes of it."""
