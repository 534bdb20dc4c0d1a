"""`python -m ops` is `withdrawals`."""

from ops.cli import main

main()
