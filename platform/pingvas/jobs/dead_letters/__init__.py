"""Jobs that failed for good through no fault of the customer, with their history; replaying them."""
