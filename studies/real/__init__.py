"""Networks that others trained, and the pictures that they are judged by."""
