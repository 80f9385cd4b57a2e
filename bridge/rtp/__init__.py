"""RTP (RFC 3550): pure, batch first. Times are milliseconds of one monotonic clock, arguments."""
