"""The running service: it withdraws learners from enrolments, asynchronously and exactly once.

Imports run downward only: errors, rules, config; models; database; ledger; services (`submit`, `persons`,
`admit`, `withdraw`, `recover`, `letters`); broker, middleware; relay; actors and web.
"""
