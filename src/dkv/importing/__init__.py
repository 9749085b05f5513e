"""Data of a living Redis or Valkey copied into the engines of a database, with the writes of the meantime (decision 0096)."""
