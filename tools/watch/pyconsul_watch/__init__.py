"""``pyconsul watch``: handlers run when the catalog, health or KV change."""
