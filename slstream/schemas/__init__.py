"""What a frame's payload means: documents, compatibility, and the registry over a log."""
