"""Accounts of a ledger: what is on them, and what may be taken off."""


def balance_of(account, entries):
    """What is on an account after all of its entries."""
    total = 0
    for entry in entries:
        if entry["account"] == account:
            total += entry["amount"]
    return total


def may_withdraw(account, amount, entries, overdraft=0):
    """Whether an amount can be taken off an account."""
    if amount <= 0:
        raise ValueError("an amount to withdraw is above zero")
    return balance_of(account, entries) - amount >= -overdraft


def transfer(source, target, amount, date, entries):
    """The two entries that move an amount between accounts."""
    if source == target:
        raise ValueError("a transfer needs two accounts")
    if not may_withdraw(source, amount, entries):
        raise ValueError("the account would be overdrawn")
    taken = {"account": source, "amount": -amount, "date": date, "note": "to " + target}
    given = {"account": target, "amount": amount, "date": date, "note": "from " + source}
    return [taken, given]


def dormant_accounts(entries, since, limit=1):
    """The accounts with fewer entries than a limit since a date."""
    counts = {}
    for entry in entries:
        counts.setdefault(entry["account"], 0)
        if entry["date"] >= since:
            counts[entry["account"]] += 1
    return sorted(account for account, count in counts.items() if count < limit)
