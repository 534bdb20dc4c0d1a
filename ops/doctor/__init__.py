"""`withdrawals doctor`: what is wrong with the set-up of the service, and what to do about it; a module a subject."""
