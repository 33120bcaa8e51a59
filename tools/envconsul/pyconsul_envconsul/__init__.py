"""envconsul: a child whose environment comes from Consul."""
