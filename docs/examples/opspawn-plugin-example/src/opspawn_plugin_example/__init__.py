"""A planner and a tool for Opspawn."""
