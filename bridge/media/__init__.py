"""The media process, and a worker's handle on it."""
