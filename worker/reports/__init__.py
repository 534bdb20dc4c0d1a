"""What happened: enrolments, outcomes, the summary, exports, and whether the books balance."""
