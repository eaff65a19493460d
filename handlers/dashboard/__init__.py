"""The dashboard: pages for the person who runs the bridge, behind a password."""
