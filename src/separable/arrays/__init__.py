"""Arrays in and out of filters: arguments, boundary modes, masks, storing of results, exact arithmetic."""
