"""One exchange from the admitted request to its records; knows no web framework."""
