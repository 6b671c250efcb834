"""Reports: balances by month, as people read them."""


def month_of(entry):
    """The month of an entry, as YYYY-MM."""
    date = entry["date"]
    if len(date) < 7:
        raise ValueError("no month in the date")
    return date[:7]


def sums_by_month(entries):
    """What came in and what went out, by month."""
    sums = {}
    for entry in entries:
        income, spending = sums.get(month_of(entry), (0, 0))
        if entry["amount"] > 0:
            income += entry["amount"]
        else:
            spending -= entry["amount"]
        sums[month_of(entry)] = (income, spending)
    return sums


def format_amount(cents, currency="EUR"):
    """An amount as it is printed."""
    sign = "-" if cents < 0 else ""
    whole, rest = divmod(abs(cents), 100)
    return f"{sign}{whole}.{rest:02d} {currency}"


def report_lines(entries, width=10):
    """A line a month: the month, what came in, what went out."""
    lines = []
    for month, (income, spending) in sorted(sums_by_month(entries).items()):
        columns = [format_amount(income).rjust(width), format_amount(spending).rjust(width)]
        lines.append(month + "  " + "  ".join(columns))
    if not lines:
        lines.append("no entries")
    return lines
