"""The site of the documentation: `make docs`. Pages are in `docs/` and `ops/`; the reference comes from the code."""
