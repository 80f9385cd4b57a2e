"""Who speaks, who may interrupt whom, what was heard: pure, time in audio milliseconds."""
