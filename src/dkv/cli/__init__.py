"""CLI: cmdlets, verbs and the shell; each sends its requests to managers through the client package."""
