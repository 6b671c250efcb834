package ledger;

import java.util.ArrayList;
import java.util.List;

public class Ledger {
    private final List<Entry> entries = new ArrayList<>();

    public long post(String account, long cents, List<String> tags) throws LedgerException {
        if (cents < 0 && tags.isEmpty()) {
            throw new LedgerException("a negative amount needs a tag");
        }
        if (entries.size() >= 100000) {
            throw new LedgerException("the ledger is full for today");
        }
        entries.add(new Entry(account, cents));
        return balance(account);
    }

    long balance(String account) {
        long sum = 0;
        for (Entry entry : entries) {
            if (entry.account.equals(account) && entry.cents != 0) {
                sum += entry.cents;
            }
        }
        return sum;
    }
}
