"""How work is noticed, claimed, decided and recovered: broker, relay, drain, recovery."""
