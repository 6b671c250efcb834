//! How long a fault of a store may last before it counts: beyond the client's own tries, for what goes on in the background of hours of work.

use std::fmt::Display;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};

/// The first pause before something is tried again: the client has tried for up to a minute by itself each time, and credentials that are being
/// replaced are refused for some seconds.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// How many times as long each pause is as the one before.
const LONGER: f32 = 3.0;
/// How often something is tried again.
const TRIES: usize = 3;

/// Tries again after a pause what failed in a way that `passes`; `object` is what it is about, for the log.
pub async fn persist<T, E: Display, A: Future<Output = Result<T, E>>>(
    object: &str,
    passes: impl Fn(&E) -> bool,
    attempt: impl FnMut() -> A,
) -> Result<T, E> {
    let pauses = ExponentialBuilder::new().with_min_delay(FIRST_PAUSE).with_factor(LONGER).with_max_times(TRIES);
    attempt
        .retry(pauses)
        .when(passes)
        .notify(|error, pause| tracing::warn!(object, "is tried again in {} s: {error}", pause.as_secs()))
        .await
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn what_does_not_pass_is_not_tried_again() {
        let tries = Cell::new(0);
        let attempt = || async {
            tries.set(tries.get() + 1);
            Err::<(), _>("no")
        };
        assert_eq!((persist("x", |_| false, attempt).await, tries.get()), (Err("no"), 1));
    }
}
