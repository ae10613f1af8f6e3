"""Records as text for people; nothing here computes."""
