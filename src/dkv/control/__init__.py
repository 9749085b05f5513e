"""Where commands become facts: submit (the only caller of decide), the clock and the liveness of servers."""
