"""A finite role-play world with text, tokens, reasoning and an exact distribution."""
