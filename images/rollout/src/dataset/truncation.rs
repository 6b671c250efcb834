//! Where a conversation that is too long is cut.

/// How many messages are left: all of them if the whole is shorter than `limit` tokens; else those up to the last whole turn of the assistant before
/// the message at which the running count reaches the limit; none if not even the first turn fits. `running` is the count up to the end of each
/// message, and `answers` says which of them are the assistant's.
pub(super) fn kept(running: &[usize], answers: &[bool], limit: usize) -> usize {
    let Some(over) = running.iter().position(|count| *count >= limit) else { return running.len() };
    answers[..over].iter().rposition(|answer| *answer).map_or(0, |last| last + 1)
}

#[cfg(test)]
mod tests {
    use super::kept;

    /// System, user, and three exchanges.
    const ANSWERS: [bool; 8] = [false, false, true, false, true, false, true, false];

    #[test]
    fn a_conversation_below_the_limit_is_whole_and_one_at_it_is_cut() {
        let lengths = [10, 20, 30, 40, 50, 60, 70, 32_767];
        assert_eq!(kept(&lengths, &ANSWERS, 32_768), 8);
        assert_eq!(kept(&[10, 20, 30, 40, 50, 60, 70, 32_768], &ANSWERS, 32_768), 7);
    }

    #[test]
    fn the_cut_is_after_the_last_answer_before_the_message_that_reaches_the_limit() {
        // Reached by an observation, by an answer, exactly, and by more than one message at once.
        assert_eq!(kept(&[1, 2, 3, 4, 5, 100, 101, 102], &ANSWERS, 100), 5);
        assert_eq!(kept(&[1, 2, 3, 4, 100, 101, 102, 103], &ANSWERS, 100), 3);
        assert_eq!(kept(&[1, 2, 3, 4, 5, 6, 100, 100], &ANSWERS, 100), 5);
        assert_eq!(kept(&[1, 2, 99, 4000, 5000, 6000, 7000, 8000], &ANSWERS, 100), 3);
    }

    #[test]
    fn a_first_exchange_over_the_limit_leaves_nothing() {
        assert_eq!(kept(&[1, 2, 100, 101, 102, 103, 104, 105], &ANSWERS, 100), 0);
        assert_eq!(kept(&[100, 101, 102, 103, 104, 105, 106, 107], &ANSWERS, 100), 0);
        assert_eq!(kept(&[], &[], 100), 0);
    }
}
