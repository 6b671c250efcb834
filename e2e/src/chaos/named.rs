//! The seeds that have once found something, each with what that was: they stay, so that it is found again where it comes back.

use super::script::Trial;

/// A seed, and what it has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named {
    /// The seed.
    pub seed: u64,
    /// What was wrong, and whose fault it was.
    pub found: &'static str,
}

impl Named {
    /// The trial that it stands for.
    pub const fn trial(self) -> Trial {
        Trial::Seed(self.seed)
    }
}

/// All of them; docs/chaos.md says more of each.
pub const FOUND: [Named; 6] = [
    Named {
        seed: 1003,
        found: "a Job's removal, of which a late watch had not told, was asked for again: it was the oracle that did not wait for it",
    },
    Named {
        seed: 2006,
        found: "a batch that somebody deleted was made anew beside pods of its Job, which worked at the same samples",
    },
    Named {
        seed: 7026,
        found: "a storm over one status patch let waits grow to a minute each: it was the trial that had too little time",
    },
    Named {
        seed: 8006,
        found: "a batch was deleted while its pods worked, their end woke nobody, and the run waited for ever",
    },
    Named {
        seed: 8062,
        found: "batches of a run that was gone took the word of the next one of its name, and were rolled out for nobody",
    },
    Named {
        seed: 8186,
        found: "after a storm over the watch of runs everything was listed only 50 s later; and three storms took all of a trial's time",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_there_once_and_in_order() {
        assert!(FOUND.is_sorted_by(|one, next| one.seed < next.seed && one.found != next.found));
    }
}
