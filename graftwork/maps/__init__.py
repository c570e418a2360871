"""Maps from hidden states of one encoder to those of another, fitted on tokens that both have. Numbers only."""
