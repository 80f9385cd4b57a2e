"""`make demo`: a real phone call to an agent, and what it was like at the caller's end."""
