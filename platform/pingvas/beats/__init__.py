"""Scheduled work runs once, however many beats ring for it; its last runs tell operators how late it is."""
