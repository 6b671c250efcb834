"""Currencies: how much of one is how much of another."""


def convert(amount, rate, places=2):
    """An amount in another currency, rounded to its places."""
    if rate <= 0:
        raise ValueError("a rate is above zero")
    return round(amount * rate, places)


def cross_rate(rates, source, target, base="EUR"):
    """The rate between two currencies that are both quoted in a third."""
    if source == target:
        return 1.0
    if source not in rates and source != base:
        raise KeyError("no rate for " + source)
    of_source = 1.0 if source == base else rates[source]
    of_target = 1.0 if target == base else rates[target]
    return of_target / of_source


def is_stale(quoted_at, now, limit=3600):
    """Whether a rate is too old to be used, in seconds."""
    if now < quoted_at:
        raise ValueError("a rate from the future")
    return now - quoted_at > limit


def fee_of(amount, percent=1, least=50):
    """What a conversion costs: a share of the amount, but never less than this."""
    fee = abs(amount) * percent // 100
    if fee < least:
        fee = least
    return fee
