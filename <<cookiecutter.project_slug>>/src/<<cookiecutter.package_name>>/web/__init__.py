"""Request handling that all features share."""
