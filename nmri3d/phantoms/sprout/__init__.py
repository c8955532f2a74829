"""SPROUT: a sentence becomes one sparse pattern of 128 of 4096 units, refined in five rounds of messages among them."""
