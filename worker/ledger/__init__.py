"""Every SQL statement of the service, named by intent; no rule of the domain is decided anywhere else in SQL.

A function here takes the caller's connection and never commits: what belongs together commits together.
Lock order everywhere: organisation settings, letters, chunks, persons, learners, enrolments, each by id.
"""
