"""What the tables are made with."""

from sqlalchemy import ARRAY, BigInteger, DateTime, MetaData

Instant = DateTime(timezone=True)
Ids = ARRAY(BigInteger)

metadata = MetaData()
