"""The minds: anything that can hold a spoken conversation."""
