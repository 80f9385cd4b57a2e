"""What an engine costs: 200 real calls whose bot is a process behind a WebSocket."""
