//! What must be asked of the API server though it may be away: it is restarted now and then.

use std::time::{Duration, Instant};

/// The longest that something is asked again.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);
const BETWEEN: Duration = Duration::from_millis(200);
/// What the API server answers that has too much to do; from 500 on it cannot, for now.
const TOO_MANY: u16 = 429;
const CONFLICT: u16 = 409;

/// Asks until there is an answer that more asking would not change.
pub(super) async fn persistently<T, F>(ask: impl Fn() -> F) -> kube::Result<T>
where
    F: Future<Output = kube::Result<T>>,
{
    within(PATIENCE, ask).await
}

async fn within<T, F>(patience: Duration, ask: impl Fn() -> F) -> kube::Result<T>
where
    F: Future<Output = kube::Result<T>>,
{
    let began = Instant::now();
    loop {
        match ask().await {
            Err(error) if is_passing(&error) && began.elapsed() < patience => tokio::time::sleep(BETWEEN).await,
            answer => return answer,
        }
    }
}

/// Makes something likewise, by a name that nobody else gives: where it is there, an earlier request has made it, whose answer was lost.
pub(super) async fn make<T, F>(ask: impl Fn() -> F) -> kube::Result<()>
where
    F: Future<Output = kube::Result<T>>,
{
    match persistently(ask).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == CONFLICT => Ok(()),
        Err(error) => Err(error),
    }
}

fn is_passing(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => status.code >= 500 || status.code == TOO_MANY,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use kube::core::Status;

    use super::*;

    fn refused(code: u16) -> kube::Error {
        kube::Error::Api(Status { code, ..Status::default() }.boxed())
    }

    /// What comes of these answers, one after the other, and how many of them were asked for.
    async fn asked<const N: usize>(answers: [fn() -> kube::Result<u8>; N]) -> (kube::Result<u8>, usize) {
        let asked = Cell::new(0);
        let answer = persistently(|| async {
            asked.set(asked.get() + 1);
            answers[asked.get() - 1]()
        });
        (answer.await, asked.get())
    }

    #[tokio::test]
    async fn what_an_api_server_cannot_do_now_is_asked_again_and_what_it_will_not_do_is_not() {
        let away: fn() -> kube::Result<u8> = || Err(kube::Error::LinesCodecMaxLineLengthExceeded);
        let (answer, times) = asked([away, || Err(refused(503)), || Err(refused(429)), || Ok(7)]).await;
        assert!(matches!(answer, Ok(7)) && times == 4, "{answer:?} after {times}");
        let (answer, times) = asked([|| Err(refused(404)), || Ok(7)]).await;
        assert!(answer.is_err() && times == 1, "{answer:?} after {times}");
    }

    #[tokio::test]
    async fn it_is_given_up_after_a_while() {
        let (began, patience) = (Instant::now(), 3 * BETWEEN);
        assert!(within::<(), _>(patience, || async { Err(refused(500)) }).await.is_err());
        assert!((patience..4 * patience).contains(&began.elapsed()));
    }

    #[tokio::test]
    async fn what_is_there_already_was_made_before() {
        assert!(make::<(), _>(|| async { Err(refused(409)) }).await.is_ok());
        assert!(make::<(), _>(|| async { Err(refused(403)) }).await.is_err());
    }
}
