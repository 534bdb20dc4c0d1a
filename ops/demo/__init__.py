"""The demo: the Open University's registrations, replayed against the running service."""
