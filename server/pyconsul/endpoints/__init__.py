"""What a server answers: one file a noun, methods named as on the wire."""
