"""From results to a page: reads what loadtests wrote, judges it, draws it."""
