"""The API over HTTP, and what stands on it: calls, the dashboard's pages, history."""
