"""From data to features, in Stingray's conventions."""
