"""Several processes behind one address: their parent, and what it and they tell each other."""
