"""What is attacked, loaded and timed: Kairos, its rivals, bare redis-py, the same bytes on a raw socket, and yours."""
