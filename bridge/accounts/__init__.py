"""The operator's LMArena accounts: how one is enrolled, and how its login stays alive."""
