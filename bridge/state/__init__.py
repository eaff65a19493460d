"""State that outlives the process: JSON documents, where they are stored, and how they are kept up to date."""
