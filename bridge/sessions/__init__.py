"""What is remembered of a call, so that another process can go on with it."""
