"""What happened: lists of enrolments and outcomes, their summary, exports to files, and whether the books balance."""
