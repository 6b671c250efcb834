//! How far the drivers of rollouts are, asked from time to time and outside of passes: counts for status alone. Nothing is decided by them, so that
//! losing them loses nothing; what counts is the verification's word.

mod ask;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::StreamExt;
use sera_crds::contract::Progress;

use self::ask::Asker;
use crate::{
    cache::Wake,
    facts::{Live, Uid},
};

/// How many drivers are asked at once.
const AT_ONCE: usize = 64;
/// Between two rounds on a small cluster. A round of many drivers takes longer by itself, since so few are asked at once.
const PAUSE: Duration = Duration::from_secs(5);
/// What is added to the pause at most, so that several operators of one cluster do not ask in step.
const JITTER: Duration = Duration::from_secs(2);

/// The drivers of one Job that may run.
#[derive(Debug, Clone)]
pub struct Target {
    /// The Job.
    pub job: Uid,
    /// Who is told that there is news.
    pub wake: Wake,
    /// The drivers' addresses.
    pub urls: Vec<String>,
}

/// What was heard last, by Job. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Board(Arc<Mutex<HashMap<Uid, Live>>>);

impl Board {
    /// What the drivers of a Job said last.
    pub fn of(&self, job: &Uid) -> Option<Live> {
        self.lock().get(job).copied()
    }

    /// Notes what was heard in a round, and forgets the Jobs that nobody was asked of; returns those that there is news of.
    fn note(&self, heard: HashMap<Uid, Live>) -> Vec<Uid> {
        let mut known = self.lock();
        let news =
            heard.iter().filter(|(job, live)| known.get(*job) != Some(*live)).map(|(job, _)| job.clone()).collect();
        *known = heard;
        news
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uid, Live>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks all `targets` in rounds, for ever, and wakes whom there is news for.
pub async fn collect(board: Board, targets: impl Fn() -> Vec<Target>, wake: impl Fn(Wake)) {
    let asker = Asker::new();
    loop {
        tokio::time::sleep(PAUSE + jitter()).await;
        let round = targets();
        let heard = listen(&asker, &round).await;
        let news = board.note(heard);
        for target in round.into_iter().filter(|target| news.contains(&target.job)) {
            wake(target.wake);
        }
    }
}

/// One round: every driver once. One that does not answer counts as nothing; it may not have started, or have ended just now.
async fn listen(asker: &Asker, round: &[Target]) -> HashMap<Uid, Live> {
    let questions = round.iter().flat_map(|target| target.urls.iter().map(move |url| (&target.job, url)));
    let answers = futures::stream::iter(questions)
        .map(|(job, url)| async move { (job, asker.ask(url).await) })
        .buffer_unordered(AT_ONCE);
    answers
        .fold(HashMap::new(), |mut heard: HashMap<Uid, Live>, (job, answer)| async move {
            if let Some(Progress { done, usage, .. }) = answer {
                let live = heard.entry(job.clone()).or_default();
                live.done = live.done.saturating_add(done);
                live.tokens = live.tokens.saturating_add(usage.prompt_tokens).saturating_add(usage.completion_tokens);
            }
            heard
        })
        .await
}

/// A part of [`JITTER`] by the clock's fraction of a second, which is as good as chance here.
fn jitter() -> Duration {
    let fraction = jiff::Timestamp::now().subsec_nanosecond().unsigned_abs();
    JITTER.mul_f64(f64::from(fraction) / 1e9)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::{Router, routing::get};
    use sera_crds::contract::{CONTRACT_VERSION, Usage};
    use tokio::net::TcpListener;

    use super::*;
    use crate::names::Kind;

    async fn serve(router: Router) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    fn driver(done: u64, version: u32) -> Router {
        let usage = Usage { calls: 9, prompt_tokens: 700, cached_tokens: 500, completion_tokens: 30 };
        let progress = Progress { version, samples: 32, done, usage, ..Progress::default() };
        let answer = serde_json::to_string(&progress).unwrap();
        Router::new().route("/progress", get(move || std::future::ready(answer.clone())))
    }

    fn target(job: &str, addresses: &[SocketAddr]) -> Target {
        Target {
            job: job.into(),
            wake: Wake::One { kind: Kind::Batch, namespace: "ml".into(), name: job.into() },
            urls: addresses.iter().map(|address| format!("http://{address}/progress")).collect(),
        }
    }

    #[tokio::test]
    async fn what_the_drivers_of_a_job_say_is_added_up_and_silence_counts_as_nothing() {
        let first = serve(driver(3, CONTRACT_VERSION)).await;
        let second = serve(driver(4, CONTRACT_VERSION)).await;
        let other_release = serve(driver(50, CONTRACT_VERSION + 1)).await;
        let endless = serve(Router::new().route("/progress", get(|| async { "x".repeat(1 << 20) }))).await;
        let nobody: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let round = [target("a", &[first, second, nobody]), target("b", &[other_release, endless])];
        let heard = listen(&Asker::new(), &round).await;
        assert_eq!(heard, HashMap::from([("a".into(), Live { done: 7, tokens: 1_460 })]));
    }

    #[tokio::test]
    async fn only_who_there_is_news_for_is_woken_and_what_ended_is_forgotten() {
        let board = Board::default();
        let heard = |done| HashMap::from([(Uid::from("a"), Live { done, tokens: 1 })]);
        assert_eq!(board.note(heard(1)), ["a".into()]);
        assert_eq!(board.note(heard(1)), []);
        assert_eq!(board.note(heard(2)), ["a".into()]);
        assert_eq!(board.of(&"a".into()), Some(Live { done: 2, tokens: 1 }));
        board.note(HashMap::new());
        assert_eq!(board.of(&"a".into()), None);
    }
}
