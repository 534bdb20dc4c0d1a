"""Webhooks that come in: one small file for each HR system, `common` for what they share.

`ops/adding-an-hr-system.md` says what a new one needs.
"""
