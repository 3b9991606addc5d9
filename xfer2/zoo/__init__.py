"""Networks that ship with xfer2: symbol, float16 parameters, preprocessing record and model card of each, as files."""
