"""Several processes behind one address: their parent, and the messages between it and them."""
