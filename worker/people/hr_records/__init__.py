"""The records of HR systems whose events do not say what happened: one small file for each system, `record` for what
they share. `worker/queue/lookups.py` asks, and never a door.
"""
