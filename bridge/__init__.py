"""The translation and the rules: OpenAI's world on one side, LMArena's on the other."""

__version__ = "0.1.0"

#: The Server header of every answer, without versions.
SERVER = "lmarena-bridge"
