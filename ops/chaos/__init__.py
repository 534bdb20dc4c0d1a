"""What `make chaos` does to the service, what came of it, and the table that shows both."""
