"""The DNS face: names and answers."""
