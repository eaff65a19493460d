"""An LMArena client that stands alone: it knows nothing of OpenAI, of keys, of files on disk."""
