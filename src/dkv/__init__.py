"""dkv: a self-managing distributed key-value database."""
