"""Drills: processes are killed and frozen under load, and callers tell what they noticed."""
