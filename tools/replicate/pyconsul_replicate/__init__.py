"""pyconsul-replicate: copies KV trees from one cluster into others."""
