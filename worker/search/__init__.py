"""Find anything: learners, Series, enrolments, jobs and dead letters, by numbers and by parts of words."""
