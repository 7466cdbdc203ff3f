"""From a trained network to its separable form: what every framework's conversion shares."""
