"""The forms a layer may take: what each costs, holds, and is made of."""
