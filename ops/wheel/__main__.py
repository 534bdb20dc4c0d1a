"""`python -m withdrawals` is `withdrawals`."""

from . import main

main()
