"""The proof under faults: a fleet of its own, scripted tasks, random faults from a seed, and a ledger outside of it."""
