"""Accounts: who a customer is and how they prove it."""
