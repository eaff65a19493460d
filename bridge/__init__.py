"""The bridge itself, between its callers' APIs and LMArena: translation, access control, accounts and state."""

__version__ = "0.1.0"

#: The value of the Server header in every answer.
SERVER = "lmarena-bridge"
