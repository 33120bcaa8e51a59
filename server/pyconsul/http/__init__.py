"""The HTTP face: connections, routes by noun, encoding."""
