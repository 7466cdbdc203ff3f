"""The algebra of separable layers: terms, geometry, decompositions, what no layer can represent."""
