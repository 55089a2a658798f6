"""What ships for tests of fleets: nodes in memory and an event loop whose time can be played."""
