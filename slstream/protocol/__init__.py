"""Sessions as pure state machines: inputs to outputs, no I/O and no clock."""
