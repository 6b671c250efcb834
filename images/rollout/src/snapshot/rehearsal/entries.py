"""Entries of a ledger: what was paid, by whom and when."""


def make_entry(account, amount, date, note=""):
    """An entry; an amount is in cents and never zero."""
    if amount == 0:
        raise ValueError("an entry needs an amount")
    if len(date) != 10:
        raise ValueError("a date is written as YYYY-MM-DD")
    return {"account": account, "amount": amount, "date": date, "note": note}


def entries_between(entries, first, last):
    """The entries from one date to another, both included."""
    found = []
    for entry in entries:
        if entry["date"] >= first and entry["date"] <= last:
            found.append(entry)
    return found


def shorten_note(entry, limit=40):
    """The entry with a note of at most so many characters."""
    note = entry["note"]
    if len(note) > limit:
        note = note[: limit - 1] + "…"
    return {**entry, "note": note}


def largest_entries(entries, count=5):
    """The entries that moved most, whichever way."""
    if count <= 0:
        return []
    ranked = sorted(entries, key=lambda entry: abs(entry["amount"]), reverse=True)
    return ranked[:count]
