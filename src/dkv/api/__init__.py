"""The manager's doors for programs: HTTP routes, each a thin translation between JSON and commands."""
