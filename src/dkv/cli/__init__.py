"""The doors for people: cmdlets, verb commands and the shell, all spoken to a manager through the client room."""
