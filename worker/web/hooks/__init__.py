"""Webhooks of HR systems: one small file for each system, `common` for what they share.

`ops/adding-an-hr-system.md` says what a new system needs.
"""
