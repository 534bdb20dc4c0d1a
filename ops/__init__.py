"""What people run: the command line, local servers, migrations, the demo, benchmarks. Nothing imports it."""
