"""A typed async Consul client with blocking-query views."""
