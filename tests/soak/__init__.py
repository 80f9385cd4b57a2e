"""Load and soak: hundreds of real calls that come and go, judged at their callers."""
