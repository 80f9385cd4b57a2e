"""Signal code: pure, batch first. Arrays are (calls, samples) int16 unless said otherwise."""
