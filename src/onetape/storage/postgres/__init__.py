"""PostgreSQL as a store: a reader of the journal that keeps its position in the same transaction as the rows."""
