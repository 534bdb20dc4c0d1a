"""Sign-in with an OpenID Connect provider: its metadata and keys, who somebody is, and the ends that it tells."""
