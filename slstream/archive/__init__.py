"""One session in one file, which can be verified and read for ever without the log it came from."""
