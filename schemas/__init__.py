"""The wire contract: what producers send and what they get back. Importable by producers alone."""
