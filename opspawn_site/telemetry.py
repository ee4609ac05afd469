def configure(options): pass
