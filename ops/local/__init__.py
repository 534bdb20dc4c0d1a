"""PostgreSQL, Redis and the service's processes on one machine: for `demo`, `up` and the tests."""
