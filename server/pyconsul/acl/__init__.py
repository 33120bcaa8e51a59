"""Who may do what: the one authorizer every endpoint asks."""
