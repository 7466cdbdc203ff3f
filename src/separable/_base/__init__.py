"""What every room stands on: errors, words and numbers in messages, caches, files that appear whole."""
