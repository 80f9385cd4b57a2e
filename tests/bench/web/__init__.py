"""The bench of the dashboard: what it costs those who are called, and how old is what it shows."""
