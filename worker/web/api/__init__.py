"""`/v1`: the HTTP API for other services and administrators."""
