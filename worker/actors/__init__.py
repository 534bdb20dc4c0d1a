"""Dramatiq's entry points: each parses nothing, calls one service, and returns."""
