"""What a network loses over what it costs, at several budgets; framework-free."""
