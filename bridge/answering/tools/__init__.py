"""Tools that models call by text: how they are shown, and how calls are written and compared. Pure functions."""
