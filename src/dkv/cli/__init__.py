"""CLI: cmdlets, verbs and the shell; each asks managers through the client package."""
