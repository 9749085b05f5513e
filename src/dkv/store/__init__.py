"""Where the domain state is kept: one contract, several backends, one revision that guards every commit."""
