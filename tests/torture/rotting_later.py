LATER = {}
