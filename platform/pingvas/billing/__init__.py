"""Plans, quotes and the double-entry ledger of credits (1 credit = 1 GPU second)."""
