"""One machine's engines: how they are configured, started, watched and asked. Knows nothing of the domain."""
