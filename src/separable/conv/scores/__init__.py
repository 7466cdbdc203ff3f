"""What a conversion is judged by: losses with their intervals, and metrics of the user's own."""
