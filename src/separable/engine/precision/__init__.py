"""Networks in fewer bits: what their numbers range over, what is turned into levels, and what that costs."""
