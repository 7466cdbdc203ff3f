"""What people read: messages, quantities, text from outside, values in notebooks."""
