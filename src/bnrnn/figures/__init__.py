"""The papers' figures and the numbers printed in them."""
