"""What is measured beside Kairos: the floor (the same bytes on a raw socket) and bare redis-py."""
