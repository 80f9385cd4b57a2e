"""How many calls a host carries, and how many hosts a Redis does."""
