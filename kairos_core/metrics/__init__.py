"""What a monitoring system asks of Kairos (extra `metrics`)."""
