"""pyconsul-template: files rendered from live Consul data."""
