command = "not a click command"
