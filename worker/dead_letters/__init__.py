"""What could not be done: the desk, diagnosis, remedies, runs over many letters, decision receipts."""
