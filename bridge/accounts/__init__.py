"""The operator's LMArena accounts: how they are added, and how their logins are kept alive."""
