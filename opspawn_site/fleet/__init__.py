"""One machine's fleet: its data folder, its services, and the processes that `up` keeps alive."""
