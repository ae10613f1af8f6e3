"""Messages for people."""

from remid_jax.errors import UserError, visible


def test_what_steers_a_terminal_is_escaped():
    assert visible("a\x1b[31m\x07\udce9\u202eb\x00") == "a\\x1b[31m\\x07\\udce9\\u202eb\\x00"
    assert visible("Ärger, 古い\u3000納屋, 👩\u200d🚒") == "Ärger, 古い\u3000納屋, 👩\u200d🚒"


def test_a_message_is_one_harmless_line():
    assert str(UserError("a\n b \x1b[2J")) == "a b \\x1b[2J"
