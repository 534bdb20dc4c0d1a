"""Who may do what: tokens, sessions, and secrets encrypted at rest."""
