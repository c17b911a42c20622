"""The verdict's rules, as data: by cause, in the order in which causes explain others."""
