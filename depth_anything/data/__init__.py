"""Pictures with truth, pictures without, and what is done to them before a network sees them."""
