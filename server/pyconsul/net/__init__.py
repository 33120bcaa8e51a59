"""The shells: sockets, files and tasks around the protocol cores."""
