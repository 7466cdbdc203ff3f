"""The algebra of separable layers: terms, where taps fall, decompositions, what no layer can represent."""
