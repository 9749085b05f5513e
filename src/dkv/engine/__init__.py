"""One machine's engines: how they are configured, started, observed and queried. Independent of the domain."""
