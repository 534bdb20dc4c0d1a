"""`make walk`: install, watch, upgrade, break, restore, erase and rotate, by what the documentation says."""
