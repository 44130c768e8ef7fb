"""What a record on a link holds: layout, chunking, sequence. Pure."""
