"""The policy in force: snapshots, reloading, and what earlier versions said."""
