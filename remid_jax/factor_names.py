"""Names of the factors of a context X = (U, C, D), as results, limits and worlds spell them."""

FACTORS = ("user", "character", "dialogue")
DIALOGUE_PARTS = ("history", "last_turn")  # all but the last user turn, and that turn
NAME = "name"  # of the character, a part of it
