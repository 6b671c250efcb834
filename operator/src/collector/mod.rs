//! How far rollouts and trainings are, asked from time to time and outside of passes: counts for status alone. Nothing is decided by them, so that
//! losing them loses nothing; what counts is the verification's word, and the trainer's last.

mod ask;
mod board;
mod rounds;

use std::{collections::HashMap, time::Duration};

use futures::StreamExt;
use jiff::Timestamp;

use self::ask::Asker;
pub use self::board::Board;
use self::rounds::Rounds;
use crate::{
    cache::Wake,
    facts::{Live, LiveRollouts, Uid},
};

/// How many programs are asked at once.
const AT_ONCE: usize = 64;
/// What is added to a pause at most, so that several operators of one cluster do not ask in step.
const JITTER: Duration = Duration::from_secs(2);

/// The programs of one Job that may run.
#[derive(Debug, Clone)]
pub struct Target {
    /// The Job.
    pub job: Uid,
    /// Who is told that there is news.
    pub wake: Wake,
    /// The programs' addresses.
    pub urls: Vec<String>,
    /// What they are.
    pub speaker: Speaker,
}

/// What speaks at an address, and in which words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaker {
    /// A driver of rollouts.
    Rollouts,
    /// Rank 0 of a training.
    Training,
}

/// Asks all `targets` in rounds, for ever, and wakes whom there is news for.
pub async fn collect(board: Board, targets: impl Fn() -> Vec<Target>, wake: impl Fn(Wake)) {
    let (asker, mut rounds) = (Asker::new(), Rounds::of(board));
    loop {
        tokio::time::sleep(rounds.pause() + jitter()).await;
        let round = targets();
        let heard = listen(&asker, &round).await;
        rounds.end(round, heard, Timestamp::now()).for_each(&wake);
    }
}

/// One round: every program once. One that does not answer counts as nothing; it may not have started, or have ended just now.
async fn listen(asker: &Asker, round: &[Target]) -> HashMap<Uid, Live> {
    let questions = round.iter().flat_map(|target| target.urls.iter().map(move |url| (target, url)));
    let answers = futures::stream::iter(questions)
        .map(|(target, url)| async move { (&target.job, asker.ask(url, target.speaker).await) })
        .buffer_unordered(AT_ONCE);
    answers
        .fold(HashMap::new(), |mut heard: HashMap<Uid, Live>, (job, answer)| async move {
            if let Some(answer) = answer {
                let together = together(heard.get(job).copied(), answer);
                heard.insert(job.clone(), together);
            }
            heard
        })
        .await
}

/// What several programs of a Job say, taken together: drivers add up, and a training has one speaker.
fn together(before: Option<Live>, answer: Live) -> Live {
    match (before, answer) {
        (Some(Live::Rollouts(before)), Live::Rollouts(answer)) => Live::Rollouts(LiveRollouts {
            samples: before.samples.saturating_add(answer.samples),
            done: before.done.saturating_add(answer.done),
            tokens: before.tokens.saturating_add(answer.tokens),
            silence: before.silence.or(answer.silence),
            gets_on: before.gets_on || answer.gets_on,
        }),
        (_, answer) => answer,
    }
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
    use sera_crds::contract::{CONTRACT_VERSION, Progress, Silence, TrainingProgress, Usage};
    use tokio::net::TcpListener;

    use super::*;
    use crate::{facts::LiveTraining, names::Kind};

    async fn serve(router: Router) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    fn driver(done: u64, silence: Option<Silence>, version: u32) -> Router {
        let usage = Usage { calls: 9, prompt_tokens: 700, cached_tokens: 500, completion_tokens: 30 };
        let progress = Progress { version, samples: 32, done, usage, silence, ..Progress::default() };
        let answer = serde_json::to_string(&progress).unwrap();
        Router::new().route("/progress", get(move || std::future::ready(answer.clone())))
    }

    fn target(job: &str, addresses: &[SocketAddr]) -> Target {
        Target {
            job: job.into(),
            wake: Wake::One { kind: Kind::Batch, namespace: "ml".into(), name: job.into() },
            urls: addresses.iter().map(|address| format!("http://{address}/progress")).collect(),
            speaker: Speaker::Rollouts,
        }
    }

    fn trainer(version: u32) -> Router {
        let progress = TrainingProgress {
            version,
            step: 12,
            total_steps: 96,
            loss: Some(1.25),
            eval_loss: Some(1.5),
            gradient_norm: Some(0.75),
            learning_rate: 4e-5,
            tokens_per_second: 800.5,
            checkpoint: Some(10),
            peak_learning_rate: 5e-5,
            warmup_steps: 9,
        };
        let answer = serde_json::to_string(&progress).unwrap();
        Router::new().route("/progress", get(move || std::future::ready(answer.clone())))
    }

    #[tokio::test]
    async fn what_the_drivers_of_a_job_say_is_added_up_and_silence_counts_as_nothing() {
        let first = serve(driver(3, None, CONTRACT_VERSION)).await;
        let second = serve(driver(4, Some(Silence::Late), CONTRACT_VERSION)).await;
        let other_release = serve(driver(50, None, CONTRACT_VERSION + 1)).await;
        let endless = serve(Router::new().route("/progress", get(|| async { "x".repeat(1 << 20) }))).await;
        let nobody: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let round = [target("a", &[first, second, nobody]), target("b", &[other_release, endless])];
        let heard = listen(&Asker::new(), &round).await;
        assert_eq!(
            heard,
            HashMap::from([(
                "a".into(),
                Live::Rollouts(LiveRollouts {
                    samples: 64,
                    done: 7,
                    tokens: 1_460,
                    silence: Some(Silence::Late),
                    gets_on: false
                })
            )])
        );
    }

    #[tokio::test]
    async fn rank_0_of_a_training_speaks_in_its_own_words_and_no_other_is_taken_for_it() {
        let rank = serve(trainer(CONTRACT_VERSION)).await;
        let other_release = serve(trainer(CONTRACT_VERSION + 1)).await;
        let driver = serve(driver(3, None, CONTRACT_VERSION)).await;
        let training = |job, address| Target { speaker: Speaker::Training, ..target(job, &[address]) };
        let round = [
            training("a", rank),
            training("b", other_release),
            training("c", driver),
            Target { speaker: Speaker::Rollouts, ..target("d", &[rank]) },
        ];
        let said = LiveTraining {
            step: 12,
            total_steps: 96,
            loss: Some(1.25),
            tokens_per_second: 800.5,
            warmup_steps: 9,
            eta: None,
        };
        assert_eq!(listen(&Asker::new(), &round).await, HashMap::from([("a".into(), Live::Training(said))]));
    }
}
